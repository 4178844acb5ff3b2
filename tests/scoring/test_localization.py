"""Gold boxes compared with crops and predicted boxes."""

from __future__ import annotations

import pytest

from p2r.scoring.localization import localize
from p2r.types import Box

SIZE = (2000, 1000)


def test_a_box_inside_its_crop() -> None:
    gold = Box(100, 100, 200, 200)
    result = localize([gold], [Box(150, 100, 250, 200)], [(0, 0, 1000, 500)], SIZE)
    assert result.found == (True,)
    assert result.covered == (1.0,)
    assert result.iou == pytest.approx((1 / 3,))
    assert result.complete


def test_the_share_is_of_one_crop_and_the_center_decides() -> None:
    # 0–1000: the crop ends at x = 150 of the box's 100–200, so half of it is seen and its center is not.
    result = localize([Box(100, 100, 200, 200)], [], [(0, 0, 300, 1000)], SIZE)
    assert result.found == (False,)
    assert result.covered == pytest.approx((0.5,))
    # The other half in another crop does not make it readable, but the center lies in that one.
    both = localize([Box(100, 100, 200, 200)], [], [(0, 0, 300, 1000), (300, 0, 400, 1000)], SIZE)
    assert both.found == (True,)
    assert both.covered == pytest.approx((0.5,))


def test_all_of_the_evidence_must_be_found() -> None:
    gold = [Box(0, 0, 100, 100), Box(900, 900, 1000, 1000)]
    result = localize(gold, [Box(0, 0, 100, 100)], [(0, 0, 400, 400)], SIZE)
    assert result.found == (True, False)
    assert result.iou == (1.0, 0.0)
    assert not result.complete


def test_without_crops_nothing_is_found_and_without_gold_nothing_is_missed() -> None:
    assert localize([Box(0, 0, 1, 1)], [], [], SIZE).found == (False,)
    assert localize([], [], [], SIZE).complete
