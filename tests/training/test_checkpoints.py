"""Checkpoints and models that were damaged or deleted: a whole one is gone on from, none is stale."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest
import torch

from p2r.training.run_folder import PhaseFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.training.warm import Warm

Small = dict[str, str]
CHANGES = ["training.steps=3", "training.freeze_vision=true"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def zero(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


@pytest.mark.parametrize("spoil", [cut, zero, empty, flip, lambda path: path.unlink()])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.pt", "deep/rng.pth"])
def test_a_damaged_checkpoint_is_removed_and_the_one_before_is_left(
    tmp_path: Path, spoil: Callable[[Path], None], name: str
) -> None:
    folder = PhaseFolder(tmp_path)
    for step in (2, 4, 10):
        checkpoint = folder.trainer / f"checkpoint-{step}"
        (checkpoint / "deep").mkdir(parents=True)
        for file in ("model.safetensors", "optimizer.pt", "deep/rng.pth"):
            (checkpoint / file).write_bytes(f"{file} of step {step}".encode())
        folder.mark_complete(step)
    (folder.trainer / "checkpoint-12").mkdir()  # half written: nothing is said about it
    spoil(folder.trainer / "checkpoint-10" / name)
    said = folder.clear_damaged()
    assert f"checkpoint-10 is damaged ({name} is " in said
    assert said.endswith("it continues from checkpoint-4")
    assert [path.name for path in sorted(folder.trainer.iterdir())] == ["checkpoint-2", "checkpoint-4"]
    assert folder.clear_damaged() == ""


def test_a_checkpoint_whose_mark_is_damaged_and_the_last_that_is_left(tmp_path: Path) -> None:
    folder = PhaseFolder(tmp_path)
    checkpoint = folder.trainer / "checkpoint-2"
    checkpoint.mkdir(parents=True)
    (checkpoint / "complete.json").write_bytes(b"\0\0")
    assert folder.clear_damaged().endswith("; it continues from the beginning of the phase")


@pytest.fixture(scope="module")
def whole(warm: Warm, small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    warm.value("warm.train", recipe=small["recipe"], out=out, changes=CHANGES)
    return out


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, which may be damaged."""
    return shutil.copytree(whole, tmp_path / "run")


def weights(out: Path) -> bytes:
    return (out / "model/model.safetensors").read_bytes()


def test_the_state_that_is_written_is_read_without_pickle(whole: Path) -> None:
    """What torch writes is read as tensors and plain data only; the arguments of TRL are never read."""
    from transformers.trainer_pt_utils import safe_globals

    found = list(whole.rglob("*.pt")) + list(whole.rglob("*.pth"))
    assert {path.name for path in found} == {"optimizer.pt", "scheduler.pt", "rng_state.pth"}
    for path in found:
        with safe_globals():  # numpy's arrays of the random state
            torch.load(path, weights_only=True)


def test_a_run_whose_last_checkpoint_and_model_are_damaged_ends_as_it_did(
    warm: Warm, small: Small, whole: Path, run: Path
) -> None:
    phase = PhaseFolder(run / "phases/02-reasoner")
    cut(phase.trainer / "checkpoint-3/model.safetensors")
    cut(phase.model / "model.safetensors")
    cut(run / "model/model.safetensors")
    ended = warm.call("warm.train", recipe=small["recipe"], out=run, changes=CHANGES)
    assert ended.code == 0, ended.errors
    assert "model is damaged (model.safetensors is not as it was written)" in ended.errors
    assert "checkpoint-3 is damaged" in ended.errors
    assert "continues from checkpoint-2" in ended.errors
    assert weights(run) == weights(whole)
    assert [row.step for row in phase.metrics()] == [1, 2, 3]


def test_a_phase_that_is_deleted_is_trained_again_and_its_model_is_in_the_end(
    warm: Warm, small: Small, whole: Path, run: Path
) -> None:
    shutil.rmtree(run / "phases/02-reasoner")
    (run / "model/model.safetensors").write_bytes(b"of another phase")
    warm.value("warm.train", recipe=small["recipe"], out=run, changes=CHANGES)
    assert weights(run) == weights(whole)


def test_a_phase_of_other_weights_than_the_one_before_has_now_is_trained_anew(
    warm: Warm, small: Small, whole: Path, run: Path
) -> None:
    """As after the first phase was deleted and came out otherwise."""
    path = run / "phases/02-reasoner/state.json"
    state = json.loads(path.read_text())
    state["start_weights"] = {"model.safetensors": "1-00000000"}
    path.write_text(json.dumps(state))
    (run / "phases/02-reasoner/mark").touch()
    ended = warm.call("warm.train", recipe=small["recipe"], out=run, changes=CHANGES)
    assert ended.code == 0, ended.errors
    assert "phase 02-reasoner is trained again" in ended.errors
    assert not (run / "phases/02-reasoner/mark").exists()
    assert weights(run) == weights(whole)


def test_a_finished_run_whose_card_was_edited_and_whose_phases_were_tidied_up_is_left_alone(
    warm: Warm, small: Small, run: Path
) -> None:
    (run / "model/README.md").write_text("mine")
    for phase in (run / "phases").iterdir():
        shutil.rmtree(phase / "trainer")
        shutil.rmtree(phase / "model")
    warm.value("warm.train", recipe=small["recipe"], out=run, changes=CHANGES)
    assert (run / "model/README.md").read_text() == "mine"
    assert not (run / "phases/01-perceiver/model").exists()


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
