"""Engines, one file each, behind one interface: calls in, replies out."""

from typing import Annotated

from pydantic import Field

from sdg.engines.base import Engine, Hear, Reply, Resources, Session, hear_nothing
from sdg.engines.extractive import ExtractiveEngine
from sdg.engines.openai import OpenAIEngine
from sdg.engines.vllm import VLLMEngine

AnyEngine = Annotated[ExtractiveEngine | VLLMEngine | OpenAIEngine, Field(discriminator="name")]

__all__ = [
    "AnyEngine",
    "Engine",
    "ExtractiveEngine",
    "Hear",
    "OpenAIEngine",
    "Reply",
    "Resources",
    "Session",
    "VLLMEngine",
    "hear_nothing",
]
