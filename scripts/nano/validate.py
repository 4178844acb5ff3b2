"""How good a model is in both roles on validation scenes, with greedy generation in batches."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from p2r.evidence import crop_region
from p2r.parsing.perception import parse_perception
from p2r.scoring.localization import localize
from scripts.nano.drawing import Plan, validation_scene
from scripts.nano.pool import Pool, Rows, batch_of
from scripts.nano.rows import CROPS, KINDS
from scripts.nano.speaking import greedy, with_crops
from scripts.nano.tower import encode

if TYPE_CHECKING:
    from p2r.scenes import SceneSample
    from p2r.settings import Settings

_BATCH = 512


@torch.no_grad()
def generate(model: Any, pool: Pool, rows: Rows, chosen: np.ndarray, end: int, most: int) -> list[list[int]]:
    """The tokens that a model writes after the prompts of rows of one length."""
    visual, language = model.model.visual, model.model.language_model
    written = []
    for begin in range(0, len(chosen), _BATCH):
        part = chosen[begin : begin + _BATCH]
        batch = batch_of(pool, rows, part)
        evidence = rows is pool.read
        with torch.autocast(pool.device.type, torch.bfloat16, enabled=pool.device.type == "cuda"):
            images = pool.overviews(batch["scene"], annotated=evidence)
            tokens = encode(visual, images.cells, images.grids)
            if evidence:
                crops = pool.close_ups(crops_of(pool, batch["scene"]))
                tokens = with_crops(pool, batch["scene"], tokens, encode(visual, crops.cells, crops.grids))
            written += greedy(language, batch, tokens, end, most)
    return written


def crops_of(pool: Pool, scenes: np.ndarray) -> np.ndarray:
    """The numbers of the crops of scenes, in order."""
    counts = pool.crop_count[scenes]
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    numbers: np.ndarray = np.repeat(pool.first_crop[scenes], counts) + number
    return numbers


def validate(
    model: Any, tokenizer: Any, pool: Pool, plan: Plan, settings: Settings, most: int
) -> dict[str, dict[str, float]]:
    """Shares in percent, by measure and world.

    Args:
        model: nano.
        tokenizer: its own.
        pool: validation scenes.
        plan: their worlds.
        settings: for the geometry of crops.
        most: scenes of each world.

    Returns:
        `found`: gold boxes whose center lies in a crop; `complete`: questions with all of them found; `gold
        right`: answers with the gold boxes' evidence; `think right`; then worlds, and `all` of those trained.
    """
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    sums: dict[str, dict[str, list[float]]] = {}

    def note(measure: str, world: int, value: float) -> None:
        sums.setdefault(measure, {}).setdefault(plan.all[world], []).append(value)

    allowed = settings.max_tokens
    for kind, rows, tokens in (
        ("perceive", pool.look, allowed.perceive),
        ("think", pool.look, allowed.reason),
        ("reason", pool.read, allowed.reason),
    ):
        chosen = [
            row
            for row in np.flatnonzero(rows.kind[: rows.count] == KINDS.index(kind))
            if pool.index[rows.scene[row]] < most
        ]
        texts = generate(model, pool, rows, np.array(chosen, np.int64), end, tokens)
        for row, ids in zip(chosen, texts, strict=True):
            scene = int(rows.scene[row])
            world = int(pool.world[scene])
            made = validation_scene(plan, world, int(pool.index[scene]))
            text = tokenizer.decode(ids)
            if kind == "perceive":
                if made.boxes:
                    found = _found(made, text, settings)
                    note("found", world, float(np.mean(found)))
                    note("complete", world, float(all(found)))
                continue
            right = float(bool(re.search(rf"<answer>{re.escape(made.task.answer)}</answer>", text)))
            if kind == "think":
                note("think right", world, right)
            if kind == "reason" or not pool.crop_count[scene]:
                note("gold right", world, right)
                note(f"gold right, {made.task.family}", world, right)
    results = {}
    for measure, by_world in sums.items():
        trained = [value for world, values in by_world.items() if world in plan.worlds for value in values]
        means = {world: round(100 * float(np.mean(values)), 1) for world, values in by_world.items()}
        results[measure] = {"all": round(100 * float(np.mean(trained)), 1) if trained else -1.0, **means}
    return results


def _found(made: SceneSample, text: str, settings: Settings) -> tuple[bool, ...]:
    boxes = parse_perception(text).boxes[:CROPS]
    regions = [crop_region(box, made.size, settings.geometry) for box in boxes]
    return localize(made.boxes, boxes, regions, made.size).found
