"""Stages, one file each, in the order that rows take."""

from sdg.stages.brainstorm import (
    BrainstormStage,
    ParseIdeasStage,
    ReadIdeasStage,
    SelectIdeasStage,
)
from sdg.stages.decontaminate import DecontaminateStage
from sdg.stages.dedupe import DedupeStage
from sdg.stages.filter import FilterStage
from sdg.stages.infer import InferStage
from sdg.stages.judge import JudgeStage
from sdg.stages.mine import MineStage
from sdg.stages.mix import MixStage
from sdg.stages.pairs import PairsConfig, PairsStage
from sdg.stages.parse import ParseStage
from sdg.stages.render import RenderStage
from sdg.stages.seed import SeedStage

__all__ = [
    "BrainstormStage",
    "DecontaminateStage",
    "DedupeStage",
    "FilterStage",
    "InferStage",
    "JudgeStage",
    "MineStage",
    "MixStage",
    "PairsConfig",
    "PairsStage",
    "ParseIdeasStage",
    "ParseStage",
    "ReadIdeasStage",
    "RenderStage",
    "SeedStage",
    "SelectIdeasStage",
]
