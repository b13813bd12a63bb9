"""What a run consists of: its stages, wired. sdg/campaign.py runs it."""

from dataclasses import dataclass

from sdg.stage import Stage
from sdg.stages.render import RenderStage


@dataclass(frozen=True)
class Pipeline:
    """The stages of a run, wired."""

    seed: Stage
    rounds: tuple[Stage, ...]  # of each round: render first, mine last
    mix: Stage

    @property
    def stages(self) -> list[Stage]:
        """In the order that rows take."""
        return [self.seed, *self.rounds, self.mix]

    @property
    def render(self) -> RenderStage:
        (stage,) = [stage for stage in self.rounds if isinstance(stage, RenderStage)]
        return stage
