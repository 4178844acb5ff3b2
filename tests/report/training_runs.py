"""Run folders of trainings as `p2r train` writes them, with curves that look like those of a real run."""

from __future__ import annotations

import json
import math
import random
from typing import TYPE_CHECKING, Any

from p2r.scenes import make_sample, write_scenes
from tests.pages import NASTY

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """\
name: nano-pra
model: nano-base
rounds: {rounds}
data: {{samples: {samples}}}
training: {{prompts: 4, group: 4, steps: {steps}}}
phases: [{{role: perceiver}}, {{role: reasoner}}]
"""


def write_run(
    folder: Path,
    *,
    rounds: int = 1,
    steps: int = 20,
    scenes: int = 6,
    size: str = "640x360",
    done: bool = True,
) -> Path:
    """A run of `rounds` rounds; the last phase is half way when it is not `done`."""
    data = folder / "scenes"
    for _ in write_scenes(data, split="train", size=size, count=scenes):
        pass
    source = data / "samples.jsonl"
    (folder / "recipe.yaml").write_text(RECIPE.format(rounds=rounds, steps=steps, samples=source))
    _write(folder / "run.json", {"identity": {"model": "nano-base"}, "versions": {"trl": "1.16.0"}})
    _write(
        folder / "data.json", {"source": str(source), "samples": scenes, "fingerprint": "0" * 12, "notes": []}
    )
    number = 0
    for turn in range(1, rounds + 1):
        for role in ("perceiver", "reasoner"):
            number += 1
            last = number == 2 * rounds and not done
            _write_phase(folder, number, turn, role, steps, steps // 2 if last else steps, scenes)
    return folder


def _write(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data))


def _write_phase(folder: Path, number: int, turn: int, role: str, steps: int, done: int, scenes: int) -> None:
    phase = folder / "phases" / f"{number:02d}-{role}"
    status = "done" if done == steps else "running"
    state = {"number": number, "round": turn, "role": role, "status": status, "steps": steps, "step": done}
    _write(phase / "state.json", {**state, "seconds": 90.0 * done})
    rng = random.Random(number)
    metrics = [_metrics(step, steps, number, turn, role, rng) for step in range(1, done + 1)]
    (phase / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in metrics))
    with (phase / "rollouts.jsonl").open("w") as file:
        for step in range(1, done + 1):
            for group in range(4):
                for row in _group(step, steps, group, role, scenes, rng):
                    file.write(json.dumps(row) + "\n")


def _metrics(step: int, steps: int, number: int, turn: int, role: str, rng: random.Random) -> dict[str, Any]:
    gain = 1 - math.exp(-3 * (step / steps) - (number - 1))

    def noisy(value: float, spread: float = 0.06) -> float:
        return min(1.0, max(0.0, value + rng.gauss(0, spread)))

    reward = noisy(0.35 + 0.4 * gain)
    row: dict[str, Any] = {
        "step": step, "round": turn, "phase": number, "role": role, "time": 0.0, "reward": reward,
        "reward_std": 0.4, "frac_reward_zero_std": noisy(0.4 - 0.2 * gain), "kl": 0.02 * gain * rng.random(),
        "entropy": 0.4 - 0.2 * gain + 0.02 * rng.random(), "loss": rng.gauss(0, 0.01),
        "grad_norm": 1 + rng.random(),
        "completions/mean_length": 60 + 5 * rng.random(), "completions/max_length": 90.0,
        "completions/min_length": 30.0, "completions/clipped_ratio": 0.0, "seconds/step": 90 + rng.random(),
        "seconds/reward": 20.0, "failed": 0.0, "no_answer": noisy(0.02, 0.01),
        "correct": noisy(reward + 0.05), "recall": noisy(0.3 + 0.5 * gain),
    }  # fmt: skip
    if role == "perceiver":
        malformed = noisy(0.1 - 0.08 * gain, 0.01)
        row |= {"outcome/boxes": 0.95 - malformed, "outcome/whole": 0.05, "outcome/malformed": malformed}
        row |= {"gated/overlap": 0.01, "gated/label": 0.0, "gated/malformed": malformed}
        row |= {"boxes/count": 1.4 + 0.2 * rng.random(), "boxes/area": 0.05, "seconds/frozen": 15.0}
    return row


def _group(
    step: int, steps: int, group: int, role: str, scenes: int, rng: random.Random
) -> list[dict[str, Any]]:
    index = (4 * step + group) % scenes
    made = make_sample("train", index, size="640x360")
    boxes: list[dict[str, Any]] = [
        {"box": list(box.as_tuple()), "label": "the evidence"} for box in made.boxes
    ]
    rewards = [float(rng.random() < 0.3 + 0.5 * step / steps) for _ in range(4)]
    rows = []
    for position, reward in enumerate(rewards):
        text = "<think>It is there.</think><answer>A</answer>"
        drawn = boxes
        if role == "perceiver":
            moved = [[max(0, min(1000, edge + rng.uniform(-40, 40))) for edge in box["box"]] for box in boxes]
            ordered = [
                [min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]) + 5, max(b[1], b[3]) + 5] for b in moved
            ]
            drawn = [{"box": [min(n, 1000) for n in box], "label": "a sign"} for box in ordered]
            text = json.dumps([{"bbox_2d": box["box"], "label": box["label"]} for box in drawn])
        row = {
            "step": step, "group": group, "id": made.id, "role": role, "text": text, "reward": reward,
            "advantage": round(reward - sum(rewards) / 4, 3), "gate": "",
            "outcome": "boxes" if role == "perceiver" else None, "boxes": drawn, "answer": "A",
            "correct": bool(reward), "gold": made.task.answer, "recall": 1.0,
            "reasoner_text": None, "error": "",
        }  # fmt: skip
        if role == "perceiver":
            row["reasoner_text"] = "<think>I see it.</think><answer>A</answer>"
        if step == 1 and group == 0 and position == 3:
            row |= {"reward": None, "advantage": None, "correct": None, "error": f"timeout {NASTY}"}
        if step == 2 and group == 0 and position == 0 and role == "perceiver":
            row |= {"text": NASTY, "reward": 0.0, "gate": "malformed", "outcome": "malformed", "boxes": []}
            row |= {"answer": None, "correct": None, "reasoner_text": None, "recall": 0.0}
        rows.append(row)
    return rows
