"""Functions for a warm process: one step by one process and by two, and the difference of their weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from tests.training.probes import open_session, take_batch


def one_step(recipe: str, out: str, batch: str, changes: list[str]) -> str:
    """Train one step on the completions in a file, made when it is not there; returns a file of weights."""
    session = open_session(recipe, out, changes)
    built = session.build()
    trainer = built.trainer
    if not Path(batch).exists():
        _, inputs = take_batch(built)
        torch.save(inputs, batch)
    inputs = torch.load(batch, weights_only=False)
    rank, count = trainer.accelerator.process_index, trainer.accelerator.num_processes
    # What TRL holds when it has generated, so that it trains on these completions.
    trainer._buffered_inputs = [_share(inputs, rank, count)]
    trainer._step = 1
    trainer.train()
    assert trainer._buffered_inputs[0]["advantages"].equal(_share(inputs, rank, count)["advantages"])
    weights = Path(out) / f"weights-{rank}.pt"
    torch.save(trainer.accelerator.unwrap_model(trainer.model).state_dict(), weights)
    return str(weights)


def _share(inputs: dict[str, Any], rank: int, count: int) -> dict[str, Any]:
    rows = len(inputs["advantages"])
    mine = range(rank * rows // count, (rank + 1) * rows // count)
    images = torch.tensor([0, *inputs["num_images"]]).cumsum(0)
    first, last = int(images[mine.start]), int(images[mine.stop])
    patches = torch.cat([torch.zeros(1, dtype=torch.long), inputs["image_grid_thw"].prod(-1).cumsum(0)])
    share: dict[str, Any] = {}
    for key, value in inputs.items():
        if key == "pixel_values":
            share[key] = value[int(patches[first]) : int(patches[last])]
        elif key == "image_grid_thw":
            share[key] = value[first:last]
        elif isinstance(value, list) or (torch.is_tensor(value) and value.ndim):
            share[key] = value[mine.start : mine.stop]
        else:
            share[key] = value
    return share


def step_of_two(recipe: str, out: str, batch: str, changes: list[str], port: int) -> list[str]:
    """The same step by two processes under gloo."""
    children = []
    for rank in range(2):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.environ |= {"ACCELERATE_USE_CPU": "true", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
                os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
                one_step(recipe, f"{out}/{rank}", batch, changes)
                code = 0
            finally:
                os._exit(code)
        children.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    assert codes == [0, 0], codes
    return [f"{out}/{rank}/weights-{rank}.pt" for rank in range(2)]


def compare(one: str, other: str, first: str) -> dict[str, float]:
    """The largest difference between two files of weights, and how far the first is from a checkpoint."""
    from transformers import AutoModelForImageTextToText

    left, right = torch.load(one), torch.load(other)
    start = AutoModelForImageTextToText.from_pretrained(first, dtype=torch.float32).state_dict()
    return {
        "between": max(float((left[key] - right[key]).abs().max()) for key in left),
        "moved": max(float((left[key] - start[key]).abs().max()) for key in left),
    }
