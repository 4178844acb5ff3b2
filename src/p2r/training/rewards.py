"""Rewards of PRA-GRPO: is the final answer right?

Perceiver: its boxes become evidence, the frozen reasoner answers once, and that answer is scored. If a
gate fails, the reward is 0 and the reasoner is not called. Reasoner, `think` and `direct`: their own
answer is scored. A call that failed, or a score that could not be decided, gives no reward (None): the
completion is left out of the statistics of its group.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import runpy
import time
from collections import Counter
from dataclasses import replace
from itertools import chain, combinations, groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Literal

from p2r.errors import InputError, ModelError, P2RError
from p2r.evidence import build_evidences, crop_region
from p2r.models.base import Sampling
from p2r.parsing.answers import read_answer
from p2r.prompts import reason_messages
from p2r.runs.failures import FailureMonitor
from p2r.scoring import score
from p2r.scoring.localization import localize
from p2r.training.launch import exception_line
from p2r.training.run_folder import Rollout

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from p2r.models.base import Message
    from p2r.scoring.judge import Judge
    from p2r.settings import Settings
    from p2r.training.data import RolloutDataset
    from p2r.training.frozen import FrozenRole
    from p2r.training.recipe import Gates, Recipe, Role
    from p2r.types import Box, Perception

    EvidenceKey = tuple[int, tuple[tuple[float, ...], ...]]  # index of a sample, coordinates of its boxes

Gate = Literal["", "malformed", "overlap", "label"]

RECORD = "record"  # the column in which TRL hands the `Rollout` of each completion to the callback

_EXAMPLE_LABEL = re.compile(r'"label"\s*:\s*"([^"]*)"')


class RewardFunction:
    """Reward function of a phase, as TRL calls it.

    Async inside. TRL would run an async function in a thread of its own, where a frozen role in this process
    must not compute (see `FrozenWeights`); therefore it has its own loop, in the training thread.

    Args:
        dataset: samples, settings, images, and the evidence of a reasoner.
        gates: of a perceiver's reward.
        judge: of free-form answers.
        monitor: stops the phase when too much fails.
        limits: trained role → the most tokens of its completions. TRL generates all roles with one limit;
            what is longer than its role's own is rewarded as if it had been cut there.
        tokenizer: for texts that are cut.
        shaping: changes rewards, as from `load_shaping`.
        frozen: the reasoner that answers for a perceiver. Settable later: it may be the trainer's reference.
    """

    def __init__(
        self,
        dataset: RolloutDataset,
        gates: Gates,
        *,
        judge: Judge | None = None,
        monitor: FailureMonitor | None = None,
        limits: Mapping[Role, int] | None = None,
        tokenizer: Any = None,
        shaping: Callable[[Rollout], Rollout] | None = None,
        frozen: FrozenRole | None = None,
    ) -> None:
        self.dataset = dataset
        self.frozen = frozen
        self._frozen_seconds = 0.0
        self._gates = gates
        self._placeholders = placeholder_labels(dataset.settings)
        self._judge = judge
        self._monitor = monitor or FailureMonitor()
        self._limits = limits or {}
        self._tokenizer = tokenizer
        self._shaping = shaping or (lambda rollout: rollout)
        self._loop = asyncio.Runner()  # one for all steps: a client of a server belongs to its loop

    def answer(
        self,
        completions: list[Any],
        completion_ids: list[list[int]],
        role: list[Role],
        index: list[int],
        log_extra: Callable[[str, list[Any]], None],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float | None]:
        """Reward the completions of a step on this process, each a conversation of one assistant message.

        The name of this method is the name of the reward in the metrics.

        Raises:
            ModelError: too many of the last calls failed, or no completion of any process has a reward.
        """
        began, self._frozen_seconds = time.perf_counter(), 0.0
        texts = [completion[0]["content"] for completion in completions]
        for at, (writer, ids) in enumerate(zip(role, completion_ids, strict=True)):
            if len(ids) > (limit := self._limits.get(writer, len(ids))):
                texts[at] = self._tokenizer.decode(ids[:limit], skip_special_tokens=True)
        rollouts = self._loop.run(self.rollouts(role, index, texts))
        for rollout in rollouts:
            if rollout.reward is None:
                self._monitor.note_failure(rollout.error)
            else:
                self._monitor.note_success()
        if not any_process(any(rollout.reward is not None for rollout in rollouts)):
            cause, times = Counter(rollout.error for rollout in rollouts).most_common(1)[0]
            raise ModelError(
                f"none of the {len(rollouts)} completions of a step has a reward, {times} of them because: "
                f"{cause}; fix this and run the same command again: it repeats this step",
                kind="overloaded",
            )
        log_extra(RECORD, [json.dumps(rollout.to_json(), ensure_ascii=False) for rollout in rollouts])
        for name, value in reward_metrics(rollouts, list(self._limits)).items():
            log_metric(name, value)
        log_metric("seconds/reward", time.perf_counter() - began)
        if self.frozen:
            log_metric("seconds/frozen", self._frozen_seconds)
        return [rollout.reward for rollout in rollouts]

    def close(self) -> None:
        """End the loop. Safe to call twice."""
        self._loop.close()

    async def rollouts(
        self, roles: Sequence[Role], indices: Sequence[int], texts: Sequence[str]
    ) -> list[Rollout]:
        """Reward completions: role `roles[i]` wrote `texts[i]` about sample `indices[i]`."""
        written = list(map(self._read, roles, indices, texts))
        # A frozen role without sampling gives the same answer to the same evidence: one call for each.
        keys: list[EvidenceKey | None] = [
            (index, tuple(box.as_tuple() for box in one.boxes))
            if one.role == "perceiver" and not one.gate
            else None
            for index, one in zip(indices, written, strict=True)
        ]
        asked = {key: one.boxes for key, one in zip(keys, written, strict=True) if key}
        replies = await self._ask_reasoner(asked) if asked else {}
        found = [replies[key] if key else None for key in keys]
        return list(map(self._shaping, await asyncio.gather(*map(self._rewarded, indices, written, found))))

    def _read(self, role: Role, index: int, text: str) -> Rollout:
        """A completion with its evidence, before anything is asked about it."""
        sample = self.dataset.samples[index]
        boxes = self.dataset.boxes.get(index, ())
        rollout = Rollout(role, sample.question.id, text, boxes=boxes, gold=sample.answer)
        if role != "perceiver":
            return rollout
        found = self.dataset.perception(index, text)
        gate = failed_gate(found, self._gates, self._placeholders)
        return replace(rollout, gate=gate, outcome=found.outcome, boxes=found.boxes, repeats=found.repeats)

    async def _rewarded(self, index: int, rollout: Rollout, reply: str | P2RError | None) -> Rollout:
        """`reply` is the frozen reasoner's to a perceiver's boxes."""
        sample = self.dataset.samples[index]
        if rollout.role in ("perceiver", "reasoner"):
            recall = await asyncio.to_thread(self._recall, index, rollout.boxes)
            rollout = replace(rollout, recall=recall)
        if rollout.gate:
            return replace(rollout, reward=0.0)
        if isinstance(reply, P2RError):
            return replace(rollout, error=str(reply))
        rollout = replace(rollout, reasoner_text=reply)
        text = rollout.text or "" if reply is None else reply
        answer = read_answer(text, sample.question, bare=rollout.role == "direct")
        scored = await score(answer, sample, self._judge)
        if scored.correct is None:
            return replace(rollout, answer=answer.value, error=scored.reason)
        reward = float(scored.correct)
        return replace(rollout, answer=answer.value, correct=scored.correct, reward=reward)

    async def _ask_reasoner(
        self, asked: Mapping[EvidenceKey, tuple[Box, ...]]
    ) -> dict[EvidenceKey, str | P2RError]:
        """The frozen reasoner's reply to each distinct evidence, in one batch; or why there is none."""
        if self.frozen is None:
            raise InputError("the reward of a perceiver needs a frozen reasoner")
        # The completions about an image come one after another.
        of_image = [list(keys) for _, keys in groupby(asked, key=itemgetter(0))]
        # More threads than cores wait for the interpreter's lock: with 6 on 2 cores all take twice as long.
        free = asyncio.Semaphore(os.cpu_count() or 1)

        async def cut(keys: list[EvidenceKey]) -> list[tuple[Message, ...] | InputError]:
            async with free:
                return await asyncio.to_thread(self._conversations, keys[0][0], [asked[key] for key in keys])

        built = chain(*await asyncio.gather(*map(cut, of_image)))
        prompts = dict(zip(chain(*of_image), built, strict=True))
        failed = {key: one for key, one in prompts.items() if isinstance(one, InputError)}
        sent = {key: one for key, one in prompts.items() if not isinstance(one, InputError)}
        began = time.perf_counter()
        sampling = Sampling(self.dataset.settings.max_tokens.reason)
        replies = await self.frozen.complete_all(list(sent.values()), sampling)
        self._frozen_seconds += time.perf_counter() - began
        texts = [reply if isinstance(reply, ModelError) else reply.text for reply in replies]
        return {**failed, **dict(zip(sent, texts, strict=True))}

    def _conversations(
        self, index: int, lists: Sequence[Sequence[Box]]
    ) -> list[tuple[Message, ...] | InputError]:
        """The prompts of the frozen reasoner about one image, which is read once for all of them."""
        settings, question = self.dataset.settings, self.dataset.samples[index].question
        try:
            image = self.dataset.images(index)
            evidences = build_evidences([image.source], lists, settings, [image.overview])
        except InputError as error:
            # Each on its own, so that a list of boxes that does not fit fails alone.
            return [error] if len(lists) == 1 else [self._conversations(index, [one])[0] for one in lists]
        return [reason_messages(settings.prompts, question, evidence) for evidence in evidences]

    def _recall(self, index: int, boxes: Sequence[Box]) -> float | None:
        gold = self.dataset.samples[index].boxes
        if not gold:
            return None
        size, geometry = self.dataset.images(index).source.size, self.dataset.settings.geometry
        crops = [crop_region(box, size, geometry) for box in boxes[: geometry.max_crops]]
        found = localize(gold, boxes, crops, size).found
        return sum(found) / len(found)


def load_shaping(recipe: Recipe) -> Callable[[Rollout], Rollout] | None:
    """What applies the function that `shaping` names, `FILE.py:FUNCTION`, to rollouts that have a reward.

    Raises:
        InputError: it cannot be loaded; and later, it failed or returned no finite number.
    """
    if recipe.shaping is None:
        return None
    path, _, name = recipe.shaping.rpartition(":")
    try:
        function: Callable[[Rollout], float] = runpy.run_path(path)[name]
    except Exception as error:  # of a user's file
        text = f"shaping {recipe.shaping}: {exception_line(error)}; it has to be FILE.py:FUNCTION"
        raise InputError(text) from error

    def shaped(rollout: Rollout) -> Rollout:
        if rollout.reward is None:
            return rollout
        try:
            reward = float(function(rollout))
        except Exception as error:  # of a user's function
            raise InputError(f"shaping {recipe.shaping}: {exception_line(error)}") from error
        if not math.isfinite(reward):
            raise InputError(f"shaping {recipe.shaping}: a reward of {reward} for {rollout.id}")
        return replace(rollout, reward=reward)

    return shaped


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any of the processes that train together; all of them have to call this."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return flag
    from torch import distributed

    flags: list[bool | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(flags, flag)
    return any(flags)


# Gates of the perception reward.


def failed_gate(perception: Perception, gates: Gates, placeholders: frozenset[str] = frozenset()) -> Gate:
    """The gate that sets the reward to 0, or "" for none; `placeholders` as of `placeholder_labels`."""
    if gates.malformed and perception.outcome == "malformed":
        return "malformed"
    # Repeated boxes count once as evidence, but a perceiver earns nothing by repeating them.
    written = (*perception.boxes, *perception.repeats)
    if gates.overlap is not None and overlaps(written, gates.overlap):
        return "overlap"
    if gates.label and any(not _plain(box.label) or _plain(box.label) in placeholders for box in written):
        return "label"
    return ""


def overlaps(boxes: Sequence[Box], most: float) -> bool:
    """Whether two boxes have an IoU above `most`."""
    return any(one.iou(other) > most for one, other in combinations(boxes, 2))


def placeholder_labels(settings: Settings) -> frozenset[str]:
    """The labels in the examples of the perceiver's prompt."""
    prompt = settings.prompts.perceive_template(settings.box_format)
    return frozenset(_plain(label) for label in _EXAMPLE_LABEL.findall(prompt))


def _plain(label: str) -> str:
    return " ".join(label.casefold().split())


def reward_metrics(rollouts: Sequence[Rollout], roles: Sequence[Role] = ()) -> dict[str, float]:
    """Means over the completions of a step; what does not apply is left out.

    For several `roles` some of them are given for each role too, as `recall/perceiver`.
    """
    answered = [rollout for rollout in rollouts if rollout.correct is not None]
    perceived = [rollout for rollout in rollouts if rollout.outcome]
    lists = [(*one.boxes, *one.repeats) for one in perceived if one.boxes]
    values: dict[str, list[float]] = {
        "failed": [rollout.reward is None for rollout in rollouts],
        "correct": [rollout.correct is True for rollout in answered],
        "no_answer": [rollout.answer is None for rollout in answered],
        "recall": [rollout.recall for rollout in rollouts if rollout.recall is not None],
        "boxes/count": [len(boxes) for boxes in lists],
        "boxes/area": [sum(box.area for box in boxes) for boxes in lists],
    }
    for outcome in ("boxes", "whole", "malformed"):
        values[f"outcome/{outcome}"] = [rollout.outcome == outcome for rollout in perceived]
    for gate in ("overlap", "label", "malformed"):
        values[f"gated/{gate}"] = [rollout.gate == gate for rollout in perceived]
    for role in roles if len(roles) > 1 else ():
        mine = [rollout for rollout in rollouts if rollout.role == role]
        values[f"reward/{role}"] = [one.reward for one in mine if one.reward is not None]
        values[f"correct/{role}"] = [one.correct is True for one in mine if one.correct is not None]
        values[f"recall/{role}"] = [one.recall for one in mine if one.recall is not None]
    return {name: sum(found) / len(found) for name, found in values.items() if found}
