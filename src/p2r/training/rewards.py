"""The reward of a completion: is the final answer right? Built from the parts that every other door uses.

Perceiver: its boxes become evidence, the frozen reasoner answers once, and that answer is scored; gates may
set the reward to 0 before. Reasoner, `think` and `direct`: their own answer is scored. A call that failed,
and a score that could not be decided, give no reward at all (None), and leave the group.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError, ModelError
from p2r.evidence import build_evidences, crop_region
from p2r.models.base import Sampling
from p2r.parsing.answers import read_answer
from p2r.prompts import reason_messages
from p2r.scoring import score
from p2r.scoring.localization import localize
from p2r.training.gates import closed_gate, placeholder_labels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.models.base import Message
    from p2r.scoring.judge import Judge
    from p2r.training.frozen import FrozenRole
    from p2r.training.gates import Gate
    from p2r.training.recipe import Gates
    from p2r.training.rows import Rows
    from p2r.types import Answer, Box, Perception, Sample


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one completion.

    Attributes:
        reward: 0 or 1; None when a call failed or the answer could not be scored.
        gate: the gate that set it to 0; "" when none did.
        perception: what was read from a perceiver's text; None for the other roles.
        boxes: the evidence.
        answer: what was read from the text that answers; None when nothing was answered.
        correct: whether it is right; None when unknown.
        reasoner_text: what the frozen reasoner wrote (perceiver phase).
        recall: the share of gold boxes whose center lies in a crop; None without gold boxes.
        error: why there is no reward.
    """

    reward: float | None
    gate: Gate = ""
    perception: Perception | None = None
    boxes: tuple[Box, ...] = ()
    answer: str | None = None
    correct: bool | None = None
    reasoner_text: str | None = None
    recall: float | None = None
    error: str = ""


class Rewarder:
    """Rewards completions of one role.

    Args:
        rows: role, samples, settings, images, and the evidence of a reasoner.
        gates: of a perceiver's reward.
        frozen: the reasoner that answers for a perceiver; None for the other roles.
        judge: of free-form answers.
    """

    def __init__(
        self, rows: Rows, gates: Gates, frozen: FrozenRole | None = None, judge: Judge | None = None
    ) -> None:
        if (rows.role == "perceiver") != (frozen is not None):
            raise InputError("a frozen reasoner goes with the role perceiver, and is needed there")
        self.rows = rows
        self._gates = gates
        self.frozen = frozen
        self._judge = judge
        self._placeholders = placeholder_labels(rows.settings)
        # More threads than cores wait for the interpreter's lock: with 6 on 2 cores all take twice as long.
        self._cutting = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="p2r-cut")

    async def reward(self, indices: Sequence[int], texts: Sequence[str]) -> list[Verdict]:
        """Reward completions: `texts[i]` is about sample `indices[i]`."""
        if self.frozen is not None:
            return await self._reward_boxes(self.frozen, indices, texts)
        return list(
            await asyncio.gather(
                *(self._reward_answer(index, text) for index, text in zip(indices, texts, strict=True))
            )
        )

    async def _reward_answer(self, index: int, text: str) -> Verdict:
        rows = self.rows
        sample = rows.samples[index]
        answer = read_answer(text, sample.question, bare=rows.role == "direct")
        boxes = tuple(rows.boxes.get(index, ()))
        recall = await asyncio.to_thread(self._recall, index, boxes) if rows.role == "reasoner" else None
        return await self._scored(sample, answer, boxes=boxes, recall=recall)

    async def _reward_boxes(
        self, frozen: FrozenRole, indices: Sequence[int], texts: Sequence[str]
    ) -> list[Verdict]:
        """One batch of calls for the whole step; completions with the same boxes share one."""
        perceptions = [self.rows.perception(index, text) for index, text in zip(indices, texts, strict=True)]
        gates = [closed_gate(perception, self._gates, self._placeholders) for perception in perceptions]
        # A frozen role without sampling gives the same answer to the same evidence.
        keys = [
            (index, tuple(box.as_tuple() for box in perception.boxes))
            for index, perception in zip(indices, perceptions, strict=True)
        ]
        asked = {
            key: perception.boxes
            for key, perception, gate in zip(keys, perceptions, gates, strict=True)
            if not gate
        }
        replies = await self._ask(frozen, [(index, boxes) for (index, _), boxes in asked.items()])
        answered = dict(zip(asked, replies, strict=True))
        return list(
            await asyncio.gather(
                *(
                    self._verdict(key[0], perception, gate, answered.get(key))
                    for key, perception, gate in zip(keys, perceptions, gates, strict=True)
                )
            )
        )

    async def _ask(
        self, frozen: FrozenRole, asked: Sequence[tuple[int, Sequence[Box]]]
    ) -> list[str | InputError | ModelError]:
        built = await self._conversations(asked)
        conversations = [one for one in built if not isinstance(one, InputError)]
        sampling = Sampling(self.rows.settings.max_tokens.reason)
        replies = iter(await frozen.complete_all(conversations, sampling))
        results: list[str | InputError | ModelError] = []
        for one in built:
            if isinstance(one, InputError):
                results.append(one)
                continue
            reply = next(replies)
            results.append(reply if isinstance(reply, ModelError) else reply.text)
        return results

    async def _conversations(
        self, asked: Sequence[tuple[int, Sequence[Box]]]
    ) -> list[tuple[Message, ...] | InputError]:
        """What the frozen reasoner is shown; an image is read once for all completions about it."""
        loop = asyncio.get_running_loop()
        groups: dict[int, list[Sequence[Box]]] = {}
        for index, boxes in asked:
            groups.setdefault(index, []).append(boxes)
        built = await asyncio.gather(
            *(loop.run_in_executor(self._cutting, self._group, *group) for group in groups.items())
        )
        of_image = dict(zip(groups, map(iter, built), strict=True))
        return [next(of_image[index]) for index, _ in asked]

    def _group(
        self, index: int, lists: Sequence[Sequence[Box]]
    ) -> Sequence[tuple[Message, ...] | InputError]:
        rows = self.rows
        try:
            look = rows.looks(index)
            evidences = build_evidences(look.source, lists, rows.settings, look.overview)
        except InputError as error:
            # Each by itself, so that one list of boxes that does not fit fails alone.
            return [error] if len(lists) == 1 else [self._group(index, [boxes])[0] for boxes in lists]
        question = rows.samples[index].question
        return [reason_messages(rows.settings.prompts, question, evidence) for evidence in evidences]

    async def _verdict(
        self,
        index: int,
        perception: Perception,
        gate: Gate,
        reply: str | InputError | ModelError | None,
    ) -> Verdict:
        sample = self.rows.samples[index]
        recall = await asyncio.to_thread(self._recall, index, perception.boxes)
        if gate or reply is None:
            return Verdict(0.0, gate, perception, perception.boxes, recall=recall)
        if isinstance(reply, InputError | ModelError):
            return Verdict(
                None, perception=perception, boxes=perception.boxes, recall=recall, error=str(reply)
            )
        return await self._scored(
            sample,
            read_answer(reply, sample.question),
            perception=perception,
            boxes=perception.boxes,
            recall=recall,
            reasoner_text=reply,
        )

    async def _scored(self, sample: Sample, answer: Answer, **known: Any) -> Verdict:
        scored = await score(answer, sample, self._judge)
        reward = None if scored.correct is None else float(scored.correct)
        error = scored.reason if scored.correct is None else ""
        return Verdict(reward, answer=answer.value, correct=scored.correct, error=error, **known)

    def _recall(self, index: int, boxes: Sequence[Box]) -> float | None:
        gold = self.rows.samples[index].boxes
        if not gold:
            return None
        size = self.rows.looks(index).source.size
        geometry = self.rows.settings.geometry
        crops = [crop_region(box, size, geometry) for box in boxes[: geometry.max_crops]]
        found = localize(gold, boxes, crops, size).found
        return sum(found) / len(found)


def rollout_record(sample: Sample, text: str, verdict: Verdict) -> dict[str, Any]:
    """A completion as a line of `rollouts.jsonl`; step, group and advantage are added when they are known."""
    return {
        "id": sample.question.id,
        "text": text,
        "reward": verdict.reward,
        "gate": verdict.gate,
        "outcome": verdict.perception.outcome if verdict.perception else None,
        "boxes": [box.to_json() for box in verdict.boxes],
        "answer": verdict.answer,
        "correct": verdict.correct,
        "gold": sample.answer,
        "recall": verdict.recall,
        "reasoner_text": verdict.reasoner_text,
        "error": verdict.error,
    }


def reward_metrics(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Means over the completions of a step; what does not apply is left out."""
    metrics = {"failed": _mean([verdict.reward is None for verdict in verdicts])}
    answered = [verdict for verdict in verdicts if verdict.correct is not None]
    if answered:
        metrics["correct"] = _mean([verdict.correct is True for verdict in answered])
        metrics["no_answer"] = _mean([verdict.answer is None for verdict in answered])
    if recalls := [verdict.recall for verdict in verdicts if verdict.recall is not None]:
        metrics["recall"] = _mean(recalls)
    perceptions = [verdict.perception for verdict in verdicts if verdict.perception]
    if perceptions:
        for outcome in ("boxes", "whole", "malformed"):
            metrics[f"outcome/{outcome}"] = _mean([one.outcome == outcome for one in perceptions])
        for gate in ("overlap", "label", "malformed"):
            metrics[f"gated/{gate}"] = _mean([verdict.gate == gate for verdict in verdicts])
        lists = [(*one.boxes, *one.repeats) for one in perceptions if one.boxes]
        if lists:
            metrics["boxes/count"] = _mean([len(boxes) for boxes in lists])
            metrics["boxes/area"] = _mean([sum(box.area for box in boxes) for boxes in lists])
    return metrics


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
