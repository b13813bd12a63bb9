"""What a run consists of: its stages, wired. sdg/campaign.py runs it."""

from dataclasses import dataclass

from sdg.stage import Stage
from sdg.stages.render import RenderStage


@dataclass(frozen=True)
class Pipeline:
    """The stages of a run, wired. The rounds take their seeds from what there is of `seed` (the
    corpus's passages), the task list and `pairs` (an existing dataset, to be translated)."""

    rounds: tuple[Stage, ...]  # of each round: render first, mine last
    mix: Stage
    seed: Stage | None = None
    listed_ideas: Stage | None = None  # reads a list that is there already
    ideas: tuple[Stage, ...] = ()  # make ideas: brainstorm, infer, parse_ideas
    select_ideas: Stage | None = None  # of both; there if either is
    pairs: Stage | None = None

    @property
    def stages(self) -> list[Stage]:
        """All, in the order that rows take."""
        sources = [self.seed, self.listed_ideas, *self.ideas, self.select_ideas, self.pairs]
        return [*(stage for stage in sources if stage), *self.rounds, self.mix]

    @property
    def render(self) -> RenderStage:
        (stage,) = [stage for stage in self.rounds if isinstance(stage, RenderStage)]
        return stage
