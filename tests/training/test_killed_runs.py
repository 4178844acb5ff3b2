"""Whole runs that are killed, in each phase and between them, or damaged: the same command completes them.

The processes are real, and SIGKILL is sent to all of them at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from p2r.training.run_folder import PhaseFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.training.warm import Warm

Small = dict[str, str]
pytestmark = pytest.mark.long

CHANGES = ["training.steps=4", "training.save_every=2", "training.freeze_vision=true"]
# What is measured with a clock, or counts sessions.
_CLOCK = ("time", "seconds", "step_time")


def phases(out: Path) -> list[PhaseFolder]:
    return [PhaseFolder(path) for path in sorted((out / "phases").glob("*"))]


def figures(folder: PhaseFolder) -> list[dict[str, Any]]:
    return [
        {key: value for key, value in row.to_json().items() if key.split("/")[0] not in _CLOCK}
        for row in folder.metrics()
    ]


@pytest.fixture(scope="module")
def uninterrupted(warm: Warm, small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    warm.value("warm.train", recipe=small["recipe"], out=out, changes=CHANGES)
    return out


def kill_when(
    warm: Warm, small: Small, out: Path, reached: Callable[[], bool], changes: Sequence[str] = CHANGES
) -> None:
    """Start the run, and kill all of its processes as soon as it has got somewhere."""
    pid = warm.start("warm.train", recipe=small["recipe"], out=out, changes=changes)
    deadline = time.monotonic() + 250
    while not reached():
        assert time.monotonic() < deadline, "it never got there"
        time.sleep(0.002)
    os.killpg(pid, signal.SIGKILL)
    assert warm.wait().code == -signal.SIGKILL
    with contextlib.suppress(ProcessLookupError):
        while True:  # until the last of them is gone
            os.killpg(pid, 0)
            time.sleep(0.01)


def has_steps(out: Path, name: str, steps: int) -> Callable[[], bool]:
    path = out / "phases" / name / "metrics.jsonl"
    return lambda: path.exists() and path.read_bytes().count(b"\n") >= steps


def test_a_run_trains_both_roles_and_leaves_the_frozen_one_alone(uninterrupted: Path) -> None:
    perceiver, reasoner = phases(uninterrupted)
    for folder, role in ((perceiver, "perceiver"), (reasoner, "reasoner")):
        state = folder.state()
        assert (state.role, state.status, state.step, state.steps) == (role, "done", 4, 4)
        assert state.frozen_before == state.frozen_after != ""
        assert [row.step for row in folder.metrics()] == [1, 2, 3, 4]
        assert len(list(folder.rollouts())) == 4 * 8
    # The reasoner starts from what the perceiver has become, and the frozen perceiver is that too.
    assert reasoner.state().start == str(perceiver.model)
    assert perceiver.state().frozen_before != reasoner.state().frozen_before
    # A greedy frozen reasoner of phrases may answer everything alike, so only the reasoner must earn both.
    assert {row.reward for row in perceiver.rollouts()} <= {0.0, 1.0}
    assert {row.reward for row in reasoner.rollouts()} == {0.0, 1.0}
    assert (uninterrupted / "model" / "p2r.json").is_file()


def test_rollouts_are_written_with_what_trl_made_of_them(uninterrupted: Path) -> None:
    for folder in phases(uninterrupted):
        rows = list(folder.rollouts())
        for metrics in folder.metrics():
            mine = [row for row in rows if row.step == metrics.step]
            assert sum(row.reward or 0.0 for row in mine) / len(mine) == pytest.approx(
                metrics.values["reward"]
            )
            for group in range(2):
                members = [row for row in mine if row.group == group]
                assert len({row.id for row in members}) == 1
                assert sum(row.advantage or 0.0 for row in members) == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("in_second", [(1,), (1, 3)])
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_is_not(
    warm: Warm, small: Small, uninterrupted: Path, tmp_path: Path, in_second: tuple[int, ...]
) -> None:
    """After the checkpoint of the first phase, between the two, and after these steps of the second."""
    out = tmp_path / "run"
    first, second = out / "phases/01-perceiver", out / "phases/02-reasoner"
    kill_when(warm, small, out, has_steps(out, first.name, 3))
    between = first / "model/config.json"
    kill_when(warm, small, out, between.exists)
    for steps in in_second:
        kill_when(warm, small, out, has_steps(out, second.name, steps))
    warm.value("warm.train", recipe=small["recipe"], out=out, changes=CHANGES)
    for ours, theirs in zip(phases(out), phases(uninterrupted), strict=True):
        # In float32 on a CPU to the last digit.
        assert figures(ours) == figures(theirs)
        assert list(ours.rollouts()) == list(theirs.rollouts())
        assert ours.state().status == "done"
    hashes = [
        warm.value("probes.file_hash", path=folder / "model/model.safetensors")
        for folder in (out, uninterrupted)
    ]
    assert hashes[0] == hashes[1]
    assert len(json.loads((out / "run.json").read_text())["sessions"]) == 3 + len(in_second)


def test_a_finished_run_is_left_as_it_is(warm: Warm, small: Small, uninterrupted: Path) -> None:
    before = (uninterrupted / "model/model.safetensors").stat().st_mtime_ns
    warm.value("warm.train", recipe=small["recipe"], out=uninterrupted, changes=CHANGES)
    assert (uninterrupted / "model/model.safetensors").stat().st_mtime_ns == before


def test_another_recipe_does_not_continue_a_run(warm: Warm, small: Small, uninterrupted: Path) -> None:
    changes = [*CHANGES, "training.kl=0.5"]
    ended = warm.call("warm.train", recipe=small["recipe"], out=uninterrupted, changes=changes)
    assert ended.code == 2
    assert "training.kl was 0.05, is 0.5" in ended.errors
    assert "another folder" in ended.errors


def test_two_commands_do_not_write_one_run(warm: Warm, small: Small, uninterrupted: Path) -> None:
    from p2r.runs.files import folder_lock

    with folder_lock(uninterrupted):
        ended = warm.call("warm.train", recipe=small["recipe"], out=uninterrupted, changes=CHANGES)
    assert ended.code == 2
    assert "another process is writing this run" in ended.errors


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([*CHANGES, "phases=[{role: perceiver}]"], id="first phase"),
        pytest.param(CHANGES, id="both phases"),
    ],
)
def test_a_full_disk_at_a_checkpoint_is_reported_and_the_run_continues(
    warm: Warm, small: Small, uninterrupted: Path, tmp_path: Path, changes: list[str]
) -> None:
    out = tmp_path / "run"
    largest = (Path(small["model"]) / "model.safetensors").stat().st_size
    ended = warm.call(
        "warm.train", recipe=small["recipe"], out=out, changes=changes, file_limit=largest - 1_000
    )
    assert ended.code == 2, ended.errors
    assert "free some space and run the same command again" in ended.errors
    assert PhaseFolder(out / "phases/01-perceiver").state().status == "stopped"
    warm.value("warm.train", recipe=small["recipe"], out=out, changes=changes)
    for ours, theirs in zip(phases(out), phases(uninterrupted), strict=changes == CHANGES):
        assert figures(ours) == figures(theirs)


# Runs whose files were damaged or deleted.


@pytest.fixture
def damaged(uninterrupted: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, which may be damaged."""
    return shutil.copytree(uninterrupted, tmp_path / "run")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def weights(out: Path) -> bytes:
    return (out / "model/model.safetensors").read_bytes()


def test_the_state_that_is_written_is_read_without_pickle(uninterrupted: Path) -> None:
    """What torch writes is read as tensors and plain data only; the arguments of TRL are never read."""
    from transformers.trainer_pt_utils import safe_globals

    found = list(uninterrupted.rglob("*.pt")) + list(uninterrupted.rglob("*.pth"))
    assert {path.name for path in found} == {"optimizer.pt", "scheduler.pt", "rng_state.pth"}
    for path in found:
        with safe_globals():  # numpy's arrays of the random state
            torch.load(path, weights_only=True)


def test_a_run_whose_last_checkpoint_and_model_are_damaged_ends_as_it_did(
    warm: Warm, small: Small, uninterrupted: Path, damaged: Path
) -> None:
    phase = PhaseFolder(damaged / "phases/02-reasoner")
    cut(phase.trainer / "checkpoint-4/model.safetensors")
    cut(phase.model / "model.safetensors")
    cut(damaged / "model/model.safetensors")
    ended = warm.call("warm.train", recipe=small["recipe"], out=damaged, changes=CHANGES)
    assert ended.code == 0, ended.errors
    assert "model is damaged (model.safetensors is not as it was written)" in ended.errors
    assert "checkpoint-4 is damaged" in ended.errors
    assert "continues from checkpoint-2" in ended.errors
    assert weights(damaged) == weights(uninterrupted)
    assert [row.step for row in phase.metrics()] == [1, 2, 3, 4]


def test_a_phase_that_is_deleted_is_trained_again_and_its_model_is_in_the_end(
    warm: Warm, small: Small, uninterrupted: Path, damaged: Path
) -> None:
    shutil.rmtree(damaged / "phases/02-reasoner")
    (damaged / "model/model.safetensors").write_bytes(b"of another phase")
    warm.value("warm.train", recipe=small["recipe"], out=damaged, changes=CHANGES)
    assert weights(damaged) == weights(uninterrupted)


def test_a_phase_of_other_weights_than_the_one_before_has_now_is_trained_again(
    warm: Warm, small: Small, uninterrupted: Path, damaged: Path
) -> None:
    """As after the first phase was deleted and came out otherwise."""
    path = damaged / "phases/02-reasoner/state.json"
    state = json.loads(path.read_text())
    state["start_weights"] = {"model.safetensors": "1-00000000"}
    path.write_text(json.dumps(state))
    (damaged / "phases/02-reasoner/mark").touch()
    ended = warm.call("warm.train", recipe=small["recipe"], out=damaged, changes=CHANGES)
    assert ended.code == 0, ended.errors
    assert "phase 02-reasoner is trained again" in ended.errors
    assert not (damaged / "phases/02-reasoner/mark").exists()
    assert weights(damaged) == weights(uninterrupted)


def test_a_finished_run_whose_card_was_edited_and_whose_phases_were_tidied_up_is_left_alone(
    warm: Warm, small: Small, damaged: Path
) -> None:
    (damaged / "model/README.md").write_text("mine")
    for phase in (damaged / "phases").iterdir():
        shutil.rmtree(phase / "trainer")
        shutil.rmtree(phase / "model")
    warm.value("warm.train", recipe=small["recipe"], out=damaged, changes=CHANGES)
    assert (damaged / "model/README.md").read_text() == "mine"
    assert not (damaged / "phases/01-perceiver/model").exists()


def test_a_model_is_trained_without_the_code_that_it_brings(warm: Warm, small: Small, tmp_path: Path) -> None:
    model, mark = shutil.copytree(small["model"], tmp_path / "model"), tmp_path / "mark"
    (model / "own.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")
    for file in model.glob("*config.json"):
        data = json.loads(file.read_text())
        names = ("Config", "ModelForImageTextToText", "Processor", "ImageProcessor")
        data["auto_map"] = {f"Auto{name}": "own.Own" for name in names}
        file.write_text(json.dumps(data))
    changes = ["phases=[{role: perceiver}]", "training.steps=1", f"model={model}"]
    ended = warm.call("warm.train", recipe=small["recipe"], out=tmp_path / "run", changes=changes)
    assert ended.code == 0, ended.errors
    assert "brings code of its own, which is not run" in ended.errors
    assert not mark.exists()
    final = tmp_path / "run/model"
    assert not any("auto_map" in file.read_text() for file in final.glob("*.json"))
