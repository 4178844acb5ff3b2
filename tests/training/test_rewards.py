"""Rewards of each role with a scripted frozen reasoner; failures give no reward."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from p2r.errors import InputError
from p2r.parsing.perception import parse_perception
from p2r.prompts import PromptPack
from p2r.scoring.judge import Judge
from p2r.settings import PixelBudget, Settings
from p2r.training.data import RolloutDataset, image_cache
from p2r.training.frozen import FrozenModel
from p2r.training.recipe import Gates, load_recipe
from p2r.training.rewards import (
    RewardFunction,
    failed_gate,
    load_shaping,
    overlaps,
    placeholder_labels,
    reward_metrics,
)
from p2r.training.run_folder import Rollout
from p2r.types import Box, Question, Sample
from tests.fake_model import FakeModel, failure, said, shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from p2r.models.base import Message
    from p2r.training.recipe import Role

SETTINGS = Settings(
    budget=PixelBudget(overview_max_pixels=128 * 128, crop_max_pixels=64 * 64, min_pixels=1024)
)
LEFT = '[{"bbox_2d": [0, 0, 100, 100], "label": "bus"}]'
RIGHT = '[{"bbox_2d": [800, 800, 900, 900], "label": "car"}]'
TWICE = '[{"bbox_2d": [0, 0, 100, 100], "label": "bus"}, {"bbox_2d": [0, 0, 100, 99], "label": "car"}]'
GOLD = Box(10, 10, 60, 60)


def sample(name: str = "a", **more: Any) -> Sample:
    image = np.zeros((320, 320, 3), np.uint8)
    image[:32, :32] = 255  # what the left box shows
    question = Question(image, "Which?", ("red", "blue"), id=name)
    return Sample(question, "A", (GOLD,), **more)


def dataset(samples: Sequence[Sample], boxes: dict[int, tuple[Box, ...]] | None = None) -> RolloutDataset:
    return RolloutDataset(samples, SETTINGS, image_cache(samples, SETTINGS, keep=4), boxes or {})


def by_sight(messages: Sequence[Message]) -> str:
    """Right when a close-up shows the bright corner, or when there is none."""
    images = shown(messages)
    bright = len(images) == 1 or any(image.pixels[:8, :8].mean() > 100 for image in images[1:])
    return f"<think>hm</think><answer>{'A' if bright else 'B'}</answer>"


def perceiver(
    model: FakeModel, samples: Sequence[Sample] | None = None, gates: Gates = Gates()
) -> RewardFunction:
    return RewardFunction(dataset(samples or [sample()]), gates, frozen=FrozenModel(model))


def reward(
    function: RewardFunction,
    texts: Sequence[str],
    indices: Sequence[int] | None = None,
    role: Role = "perceiver",
) -> list[Rollout]:
    return asyncio.run(function.rollouts([role] * len(texts), indices or [0] * len(texts), texts))


def test_a_perceiver_is_rewarded_for_the_answer_that_its_boxes_lead_to() -> None:
    left, right = reward(perceiver(FakeModel(by_sight)), [LEFT, RIGHT])
    assert (left.reward, left.correct, left.answer, left.recall) == (1.0, True, "A", 1.0)
    assert (right.reward, right.correct, right.answer, right.recall) == (0.0, False, "B", 0.0)
    assert left.reasoner_text == "<think>hm</think><answer>A</answer>"


def test_the_whole_image_on_purpose_is_answered_from_the_plain_image() -> None:
    model = FakeModel(by_sight)
    (whole,) = reward(perceiver(model), ["[]"])
    assert whole.reward == 1.0
    assert len(model.calls[0].images) == 1
    assert "close-up" not in model.calls[0].text.lower()


def test_a_failed_gate_earns_nothing_and_makes_no_call() -> None:
    model = FakeModel(by_sight)
    overlap, malformed = reward(perceiver(model), [TWICE, "no boxes here"])
    assert (overlap.reward, overlap.gate, overlap.correct) == (0.0, "overlap", None)
    assert (malformed.reward, malformed.gate) == (0.0, "malformed")
    assert model.calls == []


def test_without_the_gate_a_malformed_text_is_answered_from_the_plain_image() -> None:
    (rollout,) = reward(perceiver(FakeModel(by_sight), gates=Gates(malformed=False)), ["no boxes here"])
    assert (rollout.reward, rollout.gate) == (1.0, "")


def test_the_same_evidence_is_asked_about_once() -> None:
    model = FakeModel(by_sight)
    other_label = LEFT.replace("bus", "van")
    rollouts = reward(perceiver(model, [sample("a"), sample("b")]), [LEFT, other_label, LEFT], [0, 0, 1])
    assert [rollout.reward for rollout in rollouts] == [1.0, 1.0, 1.0]
    assert len(model.calls) == 2


def test_a_failed_call_gives_no_reward_and_leaves_the_others_theirs() -> None:
    def reply(messages: Sequence[Message]) -> Any:
        return failure() if by_sight(messages).endswith("B</answer>") else by_sight(messages)

    left, right = reward(perceiver(FakeModel(reply)), [LEFT, RIGHT])
    assert left.reward == 1.0
    assert right.reward is None
    assert right.correct is None
    assert right.error


def test_an_image_that_turns_out_damaged_gives_no_reward(tmp_path: Any) -> None:
    import PIL.Image

    path = tmp_path / "cut.png"
    noise = np.random.default_rng(0).integers(0, 255, (320, 320, 3), np.uint8)
    PIL.Image.fromarray(noise).save(path)
    whole = Sample(Question(str(path), "Which?", ("red", "blue"), id="cut"), "A")
    function = perceiver(FakeModel(by_sight), [whole])
    path.write_bytes(path.read_bytes()[:20_000])
    (rollout,) = reward(function, [LEFT])
    assert rollout.reward is None
    assert "cut.png" in rollout.error


@pytest.mark.parametrize("role", ["reasoner", "think"])
def test_an_answering_role_is_rewarded_for_its_own_answer(role: Role) -> None:
    function = RewardFunction(dataset([sample()], {0: (GOLD,)}), Gates())
    texts = ["<answer>A</answer>", "<answer>(b)</answer>", "A or B"]
    right, wrong, none = reward(function, texts, role=role)
    assert [rollout.reward for rollout in (right, wrong, none)] == [1.0, 0.0, 0.0]
    assert none.answer is None
    assert right.recall == (1.0 if role == "reasoner" else None)


def test_direct_needs_no_tags() -> None:
    (rollout,) = reward(RewardFunction(dataset([sample()]), Gates()), ["A"], role="direct")
    assert rollout.reward == 1.0


@pytest.mark.parametrize(
    ("said_by_judge", "expected"),
    [("Yes.", 1.0), ("No, it is not", 0.0), ("Perhaps", None), (failure(), None)],
)
def test_a_judge_without_a_verdict_gives_no_reward(said_by_judge: Any, expected: float | None) -> None:
    free = Sample(Question(np.zeros((64, 64, 3), np.uint8), "Who?", id="f"), "the driver")
    judge = Judge(FakeModel([said_by_judge]))
    function = RewardFunction(dataset([free]), Gates(), judge=judge)
    (rollout,) = reward(function, ["<answer>a man at the wheel</answer>"], role="think")
    assert rollout.reward == expected


def test_a_perceiver_needs_a_frozen_reasoner() -> None:
    with pytest.raises(InputError, match="frozen reasoner"):
        reward(RewardFunction(dataset([sample()]), Gates()), [LEFT])


SHAPING = """
def few(rollout):
    return rollout.reward - 0.25 * len(rollout.boxes)


def wrong(rollout):
    return rollout.reward / 0


def endless(rollout):
    return float("inf")
"""


def shaped(folder: Path, function: str, model: FakeModel) -> RewardFunction:
    (folder / "mine.py").write_text(SHAPING)
    (folder / "recipe.yaml").write_text(
        f"{{name: x, model: m, data: {{samples: s}}, shaping: 'mine.py:{function}'}}"
    )
    shaping = load_shaping(load_recipe(folder / "recipe.yaml"))
    return RewardFunction(dataset([sample()]), Gates(), frozen=FrozenModel(model), shaping=shaping)


def test_a_function_of_the_recipe_changes_rewards_and_nothing_else(tmp_path: Path) -> None:
    def reply(messages: Sequence[Message]) -> Any:
        return failure() if by_sight(messages).endswith("B</answer>") else by_sight(messages)

    found = reward(shaped(tmp_path, "few", FakeModel(reply)), [LEFT, TWICE, "[]", RIGHT])
    assert [rollout.reward for rollout in found] == [0.75, -0.25, 1.0, None]
    assert [rollout.correct for rollout in found] == [True, None, True, None]


@pytest.mark.parametrize(
    ("function", "why"),
    [
        ("wrong", "ZeroDivisionError"),
        ("endless", "a reward of inf for a"),
        ("absent", "KeyError: 'absent'"),
    ],
)
def test_a_function_that_cannot_be_used_is_named(tmp_path: Path, function: str, why: str) -> None:
    with pytest.raises(InputError, match=rf"shaping .*mine\.py:{function}.*: .*{why}"):
        reward(shaped(tmp_path, function, FakeModel(by_sight)), [LEFT])


def test_the_reasoner_is_asked_as_the_pipeline_asks_it() -> None:
    from p2r.pipeline import P2R

    model, asked = FakeModel(by_sight), FakeModel(lambda m: LEFT if "bbox_2d" in said(m) else by_sight(m))
    reward(perceiver(model), [LEFT])
    asyncio.run(P2R(asked, settings=SETTINGS).predict(sample().question))
    assert model.calls[0].text == asked.calls[1].text
    assert model.calls[0].sampling == asked.calls[1].sampling
    ours, theirs = model.calls[0].images, asked.calls[1].images
    assert [one.pixels.tobytes() for one in ours] == [one.pixels.tobytes() for one in theirs]


def test_each_completion_of_a_batch_is_rewarded_by_its_role() -> None:
    model = FakeModel(by_sight)
    function = RewardFunction(dataset([sample()], {0: (GOLD,)}), Gates(), frozen=FrozenModel(model))
    answers = ["<answer>B</answer>", "<answer>A</answer>"]
    written = asyncio.run(
        function.rollouts(
            ["perceiver", "perceiver", "reasoner", "reasoner"], [0] * 4, [LEFT, RIGHT, *answers]
        )
    )
    assert [rollout.reward for rollout in written] == [1.0, 0.0, 0.0, 1.0]
    assert len(model.calls) == 2
    assert [rollout.text for rollout in written[2:]] == answers
    assert [rollout.recall for rollout in written] == [1.0, 0.0, 1.0, 1.0]
    metrics = reward_metrics(written[:3], ["perceiver", "reasoner"])
    assert (metrics["reward/perceiver"], metrics["reward/reasoner"]) == (0.5, 0.0)
    assert (metrics["recall/perceiver"], metrics["recall/reasoner"]) == (0.5, 1.0)
    assert metrics["correct"] == pytest.approx(1 / 3)


# What is written down.


def test_the_metrics_of_a_step() -> None:
    rollouts = reward(perceiver(FakeModel(by_sight)), [LEFT, RIGHT, TWICE, "[]", "none"])
    metrics = reward_metrics(rollouts)
    assert metrics["failed"] == 0
    assert metrics["correct"] == pytest.approx(2 / 3)
    assert metrics["recall"] == pytest.approx(2 / 5)
    assert (metrics["outcome/boxes"], metrics["outcome/whole"], metrics["outcome/malformed"]) == (
        0.6,
        0.2,
        0.2,
    )
    assert (metrics["gated/overlap"], metrics["gated/label"], metrics["gated/malformed"]) == (0.2, 0, 0.2)
    assert metrics["boxes/count"] == pytest.approx(4 / 3)
    assert metrics["boxes/area"] == pytest.approx((0.01 + 0.01 + 0.0199) / 3)


def test_failures_leave_the_means_and_are_counted() -> None:
    metrics = reward_metrics(
        [
            Rollout("think", "a", error="down"),
            Rollout("think", "b", reward=1.0, correct=True, answer="A"),
        ]
    )
    assert (metrics["failed"], metrics["correct"]) == (0.5, 1.0)
    assert "recall" not in metrics


def test_a_rollout_is_a_line_of_json() -> None:
    (rollout,) = reward(perceiver(FakeModel(by_sight)), [LEFT])
    record = json.loads(json.dumps(rollout.to_json()))
    assert record["boxes"] == [{"box": [0, 0, 100, 100], "label": "bus"}]
    assert (record["id"], record["reward"], record["gold"], record["outcome"]) == ("a", 1.0, "A", "boxes")


# Gates.

PLACEHOLDERS = placeholder_labels(Settings())


def listed(*entries: str) -> str:
    return "[" + ", ".join(entries) + "]"


BUS = '{"bbox_2d": [0, 0, 100, 100], "label": "bus"}'
SAME = '{"bbox_2d": [0, 0, 100, 90], "label": "bus again"}'
BARE = '{"bbox_2d": [300, 300, 400, 400]}'
BLANK = '{"bbox_2d": [300, 300, 400, 400], "label": "  "}'
NEARLY = '{"bbox_2d": [0, 0, 100, 99], "label": "bus"}'
COPIED = '{"bbox_2d": [300, 300, 400, 400], "label": "What is  there"}'


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        (listed(BUS), ""),
        ("[]", ""),
        ("I see a bus.", "malformed"),
        ("", "malformed"),
        (listed(BUS, SAME), "overlap"),
        (listed(BUS, BUS), "overlap"),
        (listed(BUS, NEARLY), "overlap"),
        (listed(*[BUS] * 400), "overlap"),
        (listed(BUS, BARE), "label"),
        (listed(BLANK), "label"),
        (listed(COPIED), "label"),
        (listed(BUS, SAME, BARE), "overlap"),
    ],
)
def test_the_gates_of_the_paper_and_ours(text: str, gate: str) -> None:
    assert failed_gate(parse_perception(text), Gates(), PLACEHOLDERS) == gate


def test_repeated_boxes_fail_the_gates_of_boxes() -> None:
    repeated = parse_perception(listed(BUS, NEARLY, BUS.replace("bus", " ")))
    assert len(repeated.boxes) == 1
    assert failed_gate(repeated, Gates(overlap=0.5), PLACEHOLDERS) == "overlap"
    assert failed_gate(repeated, Gates(overlap=None), PLACEHOLDERS) == "label"
    assert failed_gate(parse_perception(listed(BUS, NEARLY)), Gates(overlap=0.995), PLACEHOLDERS) == ""


@pytest.mark.parametrize("text", ["I see a bus.", listed(BUS, SAME), listed(BARE), listed(COPIED)])
def test_each_gate_can_be_switched_off(text: str) -> None:
    no_gates = Gates(overlap=None, label=False, malformed=False)
    assert failed_gate(parse_perception(text), no_gates, PLACEHOLDERS) == ""


def test_the_placeholder_is_the_label_of_the_prompts_example() -> None:
    assert {"what is there"} == PLACEHOLDERS
    assert placeholder_labels(Settings(prompts=PromptPack(perceive='$question [{"label": "A Thing"}]'))) == {
        "a thing"
    }
    assert placeholder_labels(Settings(prompts=PromptPack(perceive="$question"))) == frozenset()
    assert placeholder_labels(Settings(box_format="gemini")) == PLACEHOLDERS


def test_half_is_not_more_than_half() -> None:
    one, other = Box(0, 0, 500, 500), Box(0, 0, 500, 250)
    assert one.iou(other) == 0.5
    assert not overlaps([one, other], 0.5)
    assert overlaps([one, other], 0.49)
    assert not overlaps([one], 0.0)
