"""A rehearsal of a phase before it is paid for: do the frozen role and the judge answer, do rewards differ?

Groups whose rewards are all equal teach nothing. How many of them there are with the weights that a run
starts from is known after a few groups, by the parts that the run itself is made of.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2r.evidence import build_evidence
from p2r.models.base import Sampling
from p2r.prompts import perceive_messages, reason_messages
from p2r.training.data import ImageCache, RolloutDataset
from p2r.training.frozen import FrozenModel
from p2r.training.rewards import RewardFunction
from p2r.types import Box

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.models.base import Completion, Model
    from p2r.scoring.judge import Judge
    from p2r.settings import Settings
    from p2r.training.recipe import Gates, Phase
    from p2r.training.rewards import Verdict
    from p2r.types import Sample


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What became of a few groups.

    Attributes:
        groups: the verdicts of each.
    """

    groups: tuple[tuple[Verdict, ...], ...]

    @property
    def rewards(self) -> list[float]:
        """All rewards that there are."""
        return [verdict.reward for group in self.groups for verdict in group if verdict.reward is not None]

    @property
    def errors(self) -> list[str]:
        """Why there is no reward, for each rollout without one."""
        return [verdict.error for group in self.groups for verdict in group if verdict.reward is None]

    @property
    def differing(self) -> int:
        """In how many groups the rewards differ."""
        found = [{v.reward for v in group if v.reward is not None} for group in self.groups]
        return sum(len(rewards) > 1 for rewards in found)


async def rehearse(
    phase: Phase,
    samples: Sequence[Sample],
    settings: Settings,
    gates: Gates,
    model: Model,
    *,
    max_tokens: int,
    groups: int,
    seed: int,
    frozen: Model | None = None,
    judge: Judge | None = None,
) -> Rehearsal:
    """Let a model write a few groups of rollouts and reward them, as the phase would.

    Args:
        phase: which.
        samples: of the run; a few are drawn by the seed.
        settings, gates: of the run.
        model: writes the rollouts.
        max_tokens: of a rollout, without those for thinking, which the model adds itself.
        groups: how many.
        seed: draws the samples.
        frozen: plays the other role; the model itself when None, as at the start of a phase.
        judge: of free-form answers.

    Raises:
        ModelError: the model failed. What the frozen role and the judge do wrong is in the verdicts.
        InputError: an image cannot be read.
    """
    frozen = frozen or model
    drawn = random.Random(f"rehearsal-{seed}").sample(range(len(samples)), min(groups, len(samples)))
    chosen = [samples[index] for index in drawn]
    images = ImageCache(chosen, settings, keep=len(chosen))
    boxes: dict[int, tuple[Box, ...]] = {}
    rows = RolloutDataset(phase.role, chosen, settings, images, boxes)
    if phase.role == "reasoner":
        found = await asyncio.gather(*(_boxes(frozen, rows, index) for index in range(len(chosen))))
        boxes.update(enumerate(found))
    answering = FrozenModel(frozen) if phase.role == "perceiver" else None
    rewards = RewardFunction(rows, gates, judge=judge, frozen=answering)
    sampling = [
        Sampling(max_tokens, phase.temperature, phase.top_p, seed=seed * phase.group + number)
        for number in range(phase.group)
    ]
    asked = [(index, one) for index in range(len(chosen)) for one in sampling]
    replies = await asyncio.gather(*(model.complete(rows.messages(index), one) for index, one in asked))
    verdicts = await rewards.verdicts([index for index, _ in asked], [reply.text for reply in replies])
    size = phase.group
    return Rehearsal(tuple(tuple(verdicts[at : at + size]) for at in range(0, len(verdicts), size)))


async def _boxes(frozen: Model, rows: RolloutDataset, index: int) -> tuple[Box, ...]:
    question, overview, settings = rows.samples[index].question, rows.images(index).overview, rows.settings
    messages = perceive_messages(settings.prompts, question, overview, settings.box_format)
    reply = await frozen.complete(messages, Sampling(settings.max_tokens.perceive))
    return rows.perception(index, reply.text).boxes


async def ask_reasoner(model: Model, sample: Sample, settings: Settings) -> Completion:
    """One call as the frozen reasoner gets them: an image with a crop.

    Raises:
        ModelError: it failed.
        InputError: the image cannot be read.
    """
    look = ImageCache([sample], settings, keep=1)(0)
    boxes = sample.boxes or (Box(250, 250, 750, 750, "the middle"),)
    evidence = build_evidence(look.source, boxes, settings, look.overview)
    messages = reason_messages(settings.prompts, sample.question, evidence)
    return await model.complete(messages, Sampling(settings.max_tokens.reason))
