"""Damaged checkpoints are removed, and a run continues from the last complete one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from p2r.training.run_folder import PhaseFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
