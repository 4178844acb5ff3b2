"""A joint phase: both roles in the same steps, with the phase's start as the frozen copy of both."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import pytest

from p2r.report.training import build_training_page
from p2r.runs.journal import each_line
from p2r.training.recipe import load_recipe
from p2r.training.run_folder import PhaseFolder, TrainingRun
from p2r.training.trl import prompts_needed
from tests.training.phrase_model import PHRASES
from tests.training.test_killed_runs import figures, has_steps, kill_when

if TYPE_CHECKING:
    from tests.training.warm import Warm

Small = dict[str, str]
pytestmark = pytest.mark.long

CHANGES = ["phases=[{role: joint}]", "training.steps=4", "training.save_every=2"]
ROLES = ["perceiver", "reasoner"]


@pytest.fixture(scope="module")
def run(warm: Warm, small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("joint") / "run"
    warm.value("warm.train", recipe=small["recipe"], out=out, changes=CHANGES)
    return out


def joint(out: Path) -> PhaseFolder:
    return PhaseFolder(out / "phases/01-joint")


def test_each_sample_of_a_step_has_a_group_of_each_role(run: Path) -> None:
    state = joint(run).state()
    assert (state.role, state.status, state.step, state.steps) == ("joint", "done", 4, 4)
    assert state.frozen_before == state.frozen_after != ""
    boxes = {row["id"]: row["boxes"] for row in each_line(joint(run).path / "boxes-0.jsonl")}
    rows = list(joint(run).rollouts())
    assert len(rows) == 4 * 2 * 2 * 4
    for metrics in joint(run).metrics():
        groups = [[row for row in rows if (row.step, row.group) == (metrics.step, at)] for at in range(4)]
        assert [group[0].role for group in groups] == ROLES * 2
        assert [group[0].id for group in groups[::2]] == [group[0].id for group in groups[1::2]]
        for group in groups:
            assert len({(row.role, row.id) for row in group}) == 1
            assert sum(row.advantage or 0.0 for row in group) == pytest.approx(0, abs=1e-4)
        for role in ROLES:
            rewards = [row.reward for group in groups for row in group if row.role == role]
            assert metrics.rewards[role] == pytest.approx(fmean(reward or 0.0 for reward in rewards))
        assert metrics.values["reward"] == pytest.approx(fmean(metrics.rewards.values()))
    # A reasoner sees what the frozen perceiver found, a perceiver is asked for its own boxes.
    for row in rows:
        if row.role == "reasoner":
            assert [box.to_json() for box in row.boxes] == boxes[row.id]
            assert row.outcome is None
        else:
            assert (row.reasoner_text is None) == (row.gate != "")
            # Its limit is one token; TRL generates with that of the reasoner, three.
            assert row.text in PHRASES or len(row.text or "") <= 1


def test_a_joint_run_that_is_killed_ends_as_one_that_is_not(
    warm: Warm, small: Small, run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    kill_when(warm, small, out, has_steps(out, "01-joint", 3), CHANGES)
    warm.value("warm.train", recipe=small["recipe"], out=out, changes=CHANGES)
    assert figures(joint(out)) == figures(joint(run))
    assert list(joint(out).rollouts()) == list(joint(run).rollouts())
    assert joint(out).state().weights == joint(run).state().weights
    assert joint(out).state().sessions == 2


def test_card_and_page_give_both_roles(run: Path) -> None:
    card = (run / "model/README.md").read_text()
    assert "updated in the same steps" in card
    assert [line.split(" | ")[1] for line in card.splitlines() if line.startswith("| 1 |")] == ROLES
    page = build_training_page(TrainingRun.read(run))
    assert '"label":"perceiver"' in page
    assert '"role":"reasoner"' in page


def test_two_processes_may_hold_a_role_each(warm: Warm, small: Small, tmp_path: Path) -> None:
    changes = [*CHANGES, "training.steps=1", "training.prompts=1", "training.micro_batch=4"]
    out = tmp_path / "run"
    warm.value("warm.train", recipe=small["recipe"], out=out, changes=[*changes, "launch.processes=2"])
    rows = list(joint(out).rollouts())
    assert [row.role for row in rows] == ["perceiver"] * 4 + ["reasoner"] * 4
    (metrics,) = joint(out).metrics()
    for role in ROLES:
        rewards = [row.reward or 0.0 for row in rows if row.role == role]
        assert metrics.rewards[role] == pytest.approx(fmean(rewards))


def test_a_step_counts_both_roles(warm: Warm, small: Small) -> None:
    (phase,) = load_recipe(Path(small["recipe"]), CHANGES).phases
    assert (phase.completions, prompts_needed(phase, 4)) == (2 * 2 * 4, 8)
    changes = [*CHANGES, "training.micro_batch=7"]
    refused = warm.call("probes.configured", recipe=small["recipe"], changes=changes).errors
    assert "a step has 16 completions (prompts × group × roles), which 1 processes × micro_batch 7" in refused
