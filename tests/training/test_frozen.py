"""The frozen role on a server: in order, bounded, failures apart; a phase stops after too many."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from p2r.errors import ModelError
from p2r.models.base import Completion, Message, Sampling
from p2r.runs.failures import FailureMonitor
from p2r.runs.journal import read_lines
from p2r.settings import PixelBudget, Settings
from p2r.training.data import RolloutDataset, image_cache
from p2r.training.frozen import FrozenModel, perceive_samples, read_boxes
from p2r.training.recipe import Gates
from p2r.training.rewards import RewardFunction
from p2r.types import Question, Sample
from tests.fake_model import FakeModel, failure, said, shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SETTINGS = Settings(budget=PixelBudget(overview_max_pixels=4096, crop_max_pixels=4096, min_pixels=1024))
BOX = '[{"bbox_2d": [0, 0, 100, 100], "label": "bus"}]'


def samples(count: int) -> list[Sample]:
    image = np.zeros((64, 64, 3), np.uint8)
    return [Sample(Question(image, f"Which {k}?", ("red", "blue"), id=f"q{k}"), "A") for k in range(count)]


def test_replies_come_in_order_and_failures_apart() -> None:
    def reply(messages: Sequence[Message]) -> Any:
        return failure() if said(messages) == "2" else f"reply to {said(messages)}"

    frozen = FrozenModel(FakeModel(reply, delay_s=0.001))
    asked = [(Message("user", (str(k),)),) for k in range(8)]
    replies = asyncio.run(frozen.complete_all(asked, Sampling(5)))
    texts = [one.text if isinstance(one, Completion) else "failed" for one in replies]
    assert texts == ["failed" if k == 2 else f"reply to {k}" for k in range(8)]


# Boxes of the frozen perceiver.


def dataset(count: int, settings: Settings = SETTINGS) -> RolloutDataset:
    asked = samples(count)
    return RolloutDataset(asked, settings, image_cache(asked, settings, 8))


def perceive(
    model: FakeModel, path: Path, count: int = 5, weights: str = "w", settings: Settings = SETTINGS
) -> None:
    asyncio.run(
        perceive_samples(
            FrozenModel(model),
            dataset(count, settings),
            range(count),
            weights=weights,
            path=path,
            batch=2,
            monitor=FailureMonitor(4, 5),
        )
    )


def test_boxes_are_computed_once(tmp_path: Path) -> None:
    model, again = FakeModel(lambda _: BOX), FakeModel([])
    perceive(model, tmp_path / "boxes-0.jsonl")
    perceive(again, tmp_path / "boxes-0.jsonl")
    assert (len(model.calls), len(again.calls)) == (5, 0)
    found = read_boxes(tmp_path, dataset(5), range(5), "w")
    assert [box.as_tuple() for box in found[3]] == [(0, 0, 100, 100)]
    assert found[3][0].label == "bus"


def test_boxes_are_read_in_the_box_format_of_the_model(tmp_path: Path) -> None:
    gemini = replace(SETTINGS, box_format="gemini")
    model = FakeModel(lambda _: '[{"box_2d": [500, 100, 900, 200], "label": "bus"}]')
    perceive(model, tmp_path / "boxes-0.jsonl", 1, settings=gemini)
    (box,) = read_boxes(tmp_path, dataset(1, gemini), [0], "w")[0]
    assert box.as_tuple() == (100, 500, 200, 900)


def test_precomputing_boxes_continues_after_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "boxes-0.jsonl"
    perceive(FakeModel(lambda _: BOX), path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3]) + lines[3][:20])
    model = FakeModel(lambda _: BOX)
    perceive(model, path)
    assert len(model.calls) == 2
    assert path.read_bytes().splitlines(keepends=True) == lines


def test_another_process_answers_its_share(tmp_path: Path) -> None:
    perceive(FakeModel(lambda _: BOX), tmp_path / "boxes-0.jsonl", count=3)
    model = FakeModel(lambda _: BOX)
    perceive(model, tmp_path / "boxes-1.jsonl", count=5)
    assert len(model.calls) == 2


def test_boxes_of_other_weights_are_not_taken(tmp_path: Path) -> None:
    perceive(FakeModel(lambda _: BOX), tmp_path / "boxes-0.jsonl", weights="old")
    model = FakeModel(lambda _: "[]")
    perceive(model, tmp_path / "boxes-0.jsonl", weights="new")
    assert len(model.calls) == 5
    assert read_boxes(tmp_path, dataset(5), range(5), "new")[0] == ()


def test_a_call_that_fails_is_made_again(tmp_path: Path) -> None:
    failed: list[str] = []

    def reply(messages: Sequence[Message]) -> Any:
        if "Which 1" in said(messages) and not failed:
            failed.append("once")
            return failure()
        return BOX

    perceive(FakeModel(reply), tmp_path / "boxes-0.jsonl")
    assert len(read_lines(tmp_path / "boxes-0.jsonl")) == 5


def test_a_call_that_always_fails_stops_the_phase_and_keeps_the_rest(tmp_path: Path) -> None:
    model = FakeModel(lambda messages: failure() if "Which 1" in said(messages) else BOX)
    with pytest.raises(ModelError, match="failed 3 times on 1 samples, for example q1"):
        perceive(model, tmp_path / "boxes-0.jsonl")
    assert len(read_lines(tmp_path / "boxes-0.jsonl")) == 4


# A server that becomes unreachable.


def crops(messages: Sequence[Message]) -> int:
    """How many images beside the overview a model is shown."""
    return sum(not isinstance(part, str) for message in messages for part in message.content) - 1


def test_a_failing_reasoner_stops_the_phase_with_the_cause(tmp_path: Path) -> None:
    asked = samples(1)
    rows = RolloutDataset(asked, SETTINGS, image_cache(asked, SETTINGS, 2))
    rewards = RewardFunction(rows, Gates(), monitor=FailureMonitor(most_failures=3, window=5))
    logged: dict[str, Any] = {}

    def answer(model: FakeModel, texts: list[str]) -> list[float | None]:
        rewards.frozen = FrozenModel(model)
        completions = [[{"role": "assistant", "content": text}] for text in texts]
        return rewards.answer(
            completions=completions,
            completion_ids=[[0]] * len(texts),
            role=["perceiver"] * len(texts),
            index=[0] * len(texts),
            log_extra=logged.__setitem__,
            log_metric=logged.__setitem__,
            prompts=None,
        )

    alive = FakeModel(lambda _: "<answer>A</answer>")
    failing = FakeModel(lambda messages: failure() if crops(messages) else "<answer>A</answer>")
    assert answer(alive, [BOX, "[]", "nothing"]) == [1.0, 1.0, 0.0]
    assert logged["failed"] == 0
    assert [json.loads(record)["reward"] for record in logged["record"]] == [1.0, 1.0, 0.0]
    assert answer(failing, [BOX, "[]"]) == [None, 1.0]
    assert logged["failed"] == 0.5
    with pytest.raises(ModelError, match="none of the 1 completions of a step has a reward"):
        answer(failing, [BOX])
    with pytest.raises(
        ModelError, match=r"3 of the last 5 attempts failed, all of them: .*same command again"
    ):
        answer(failing, [BOX, "[]"])
    rewards.close()


def test_the_frozen_perceiver_looks_again_if_the_settings_say_so(tmp_path: Path) -> None:
    image = np.full((1024, 1024, 3), 128, np.uint8)
    image[100:160, 100:160] = (220, 20, 20)
    image[100:160, 100:160:3] = 255
    asked = Sample(Question(image, "Which color?", ("red", "blue"), id="q"), "A")

    def reply(messages: Sequence[Message]) -> str:
        return BOX if shown(messages)[0].pixels[..., 1].std() > 8 else "[]"

    settings = replace(SETTINGS, looks=2)
    rows = RolloutDataset([asked], settings, image_cache([asked], settings, 1))
    model = FakeModel(reply)
    path = tmp_path / "boxes-0.jsonl"
    asyncio.run(
        perceive_samples(
            FrozenModel(model), rows, [0], weights="w", path=path, batch=2, monitor=FailureMonitor(4, 5)
        )
    )
    assert len(model.calls) > 1
    (boxes,) = read_boxes(tmp_path, rows, [0], "w").values()
    assert {box.zoom for box in boxes} <= {1, 1.41, 2}
