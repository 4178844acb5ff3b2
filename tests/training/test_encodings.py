"""Steps that encode each image once, and cast weights once a rollout, are those of the plain trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training.warm import Warm

Small = dict[str, str]
# A step: two prompts of four completions about an image each, in micro-batches of half a group.
COMMON = ["phases=[{role: think}]", "training.micro_batch=2"]


def both(warm: Warm, small: Small, folder: Path, changes: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    plain, once = (
        warm.value(
            "encodings.steps",
            recipe=small["recipe"],
            out=folder / name,
            changes=[*COMMON, *changes],
            plain=name == "plain",
        )
        for name in ("plain", "once")
    )
    return plain, once


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # Two steps of two images. The tower is that of the reference, so that the update needs none.
        (["training.freeze_vision=true"], {"generation": 4, "reference": 0, "update": 0}),
        (["lora={rank: 4}"], {"generation": 4, "reference": 0, "update": 0}),
        # The update is of shuffled rows: two of one prompt meet in a micro-batch by chance.
        (["training.freeze_vision=false"], {"generation": 4, "reference": 4}),
        (["training.freeze_vision=false", "training.updates=2"], {"generation": 2, "reference": 2}),
    ],
    ids=["frozen", "adapters", "trained", "trained twice"],
)
@pytest.mark.long
def test_steps_are_those_of_the_plain_trainer(
    warm: Warm, small: Small, tmp_path: Path, changes: list[str], expected: dict[str, int]
) -> None:
    plain, once = both(warm, small, tmp_path, changes)
    print(plain["encoded"], once["encoded"])
    assert once["texts"] == plain["texts"]
    assert len(once["metrics"]) == 2
    for one, other in zip(once["metrics"], plain["metrics"], strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5)
    assert plain["metrics"][1]["kl"] > 1e-4  # the policy has moved
    for part, images in expected.items():
        assert once["encoded"].get(part, 0) == images
        assert plain["encoded"][part] == (16 if part == "update" else 4 * expected["generation"])
