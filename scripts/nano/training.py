"""The training of nano-base in stages that end by the clock.

| stage | tower | language model |
| --- | --- | --- |
| `see` | learns from what is where (`seeing`) | – |
| `speak` | the same | learns both roles from the tower's tokens, without changing the tower |
| `together` | the same, and from the language model | the same |
| `habits` | the same | learns to be incomplete: see `HASTE` |
"""

from __future__ import annotations

import json
import math
import shutil
import tarfile
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from p2r.models.placement import fast_bfloat16
from scripts.nano.build import Shape, build_model, build_processor, retokenized, save
from scripts.nano.pool import Images, Ingester, Pool, batch_of
from scripts.nano.rows import KINDS
from scripts.nano.seeing import SeeHead, augmented
from scripts.nano.speaking import language_losses, with_crops
from scripts.nano.tally import Tally
from scripts.nano.tower import encode
from scripts.nano.validate import crops_of, validate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tokenizers import Tokenizer

    from p2r.settings import Settings
    from scripts.nano.drawing import Drawers, Plan

# Until which share of the time each stage lasts.
STAGES: dict[str, float] = {"see": 0.34, "speak": 0.68, "together": 0.90, "habits": 1.0}
# How often nano-base lists only the first of several boxes, and answers without the conclusion of its
# readings, in stage `habits`. It is meant to do both: reinforcement learning is to correct that.
HASTE = {"perceive": 0.6, "reason": 0.6}
# Examples of a step, at scale 1: images in `see`; then rows that look, rows that read, and sheets.
_SEE = {"overviews": 192, "crops": 256, "sheets": 96}
_SPEAK = {"look": 288, "read": 192, "sheets": 48}
# How the rows that look are divided.
_LOOKS = {
    "speak": {"perceive": 0.56, "think": 0.08, "direct": 0.06, "drill": 0.3},
    "together": {"perceive": 0.66, "think": 0.1, "direct": 0.08, "drill": 0.16},
    "habits": {"perceive": 0.76, "think": 0.1, "direct": 0.08, "drill": 0.06},
}
_WEIGHTS = {"drill": 0.3, "direct": 0.3, "think": 0.5}
_RATE = {"tower": 1.4e-3, "language": 1.3e-3}
_LOG_SECONDS = 5.0
_PART_BYTES = 15 * 2**20


@dataclass(slots=True)
class Clock:
    """The time of a run: seconds since it began, and how many it may take until training ends."""

    began: float
    start: float
    end: float

    @property
    def now(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self.began

    def until(self, share: float) -> float:
        """When a share of the training time is over."""
        return self.start + share * (self.end - self.start)

    @property
    def share(self) -> float:
        """The share of the training time that is over."""
        return (self.now - self.start) / max(1e-6, self.end - self.start)


class Trainer:
    """Everything that a run needs.

    Args:
        plan: the worlds.
        tokenizer: nano's.
        drawers: the processes that draw.
        settings: prompts and geometry.
        out: the run folder.
        device: `cuda` or `cpu`.
        shape: of a new model.
        resume: a checkpoint folder to continue from.
        start: a model folder to start from, whatever its tokenizer.
        drawn: scenes to wait for before the first step.
        scale: of the numbers of examples of a step.
        rate: of the learning rates.
        pool_bytes: of images and rows on the device.
        pack: write checkpoints as parts of a tar file instead of folders.
    """

    def __init__(
        self,
        plan: Plan,
        tokenizer: Tokenizer,
        drawers: Drawers,
        settings: Settings,
        out: Path,
        *,
        device: torch.device,
        shape: Shape,
        resume: Path | None,
        start: Path | None,
        drawn: int,
        scale: float,
        rate: float,
        pool_bytes: float,
        pack: bool,
    ) -> None:
        self.plan, self.settings, self.out, self.device, self.pack = plan, settings, out, device, pack
        self.scale, self.drawers, self.drawn = scale, drawers, drawn
        self.processor = build_processor(0, settings, tokenizer=tokenizer)
        self.tokenizer = self.processor.tokenizer
        if resume:
            from transformers import Qwen3VLForConditionalGeneration

            self.model = Qwen3VLForConditionalGeneration.from_pretrained(resume, dtype=torch.float32)
        elif start:
            self.model = retokenized(start, self.tokenizer)
        else:
            self.model = build_model(self.processor, shape)
        self.model.to(device).train()
        self.visual, self.language = self.model.model.visual, self.model.model.language_model
        self.head = SeeHead(self.language.embed_tokens, self.tokenizer).to(device)
        # The tower of a checkpoint without its head (a bundled one) learns from the language model alone.
        self.sees = not resume or (resume / "see_head.pt").exists()
        if resume and self.sees:
            self.head.load_state_dict(
                torch.load(resume / "see_head.pt", weights_only=True, map_location=device)
            )
        groups = (*plan.all, "sheets")
        self.tally = Tally(groups, device)
        per_record = 560_000
        self.pool = Pool(max(256, int(pool_bytes / per_record)), len(plan.all), device)
        self.validation = Pool(plan.validation * len(plan.all) + 128, len(plan.all), device)
        self.half = device.type == "cuda" or fast_bfloat16()
        self.rng = np.random.default_rng(time.time_ns() % 2**32)
        merger = list(self.visual.merger.linear_fc2.parameters())
        known = {id(one) for one in merger}
        tower = [one for one in (*self.visual.parameters(), *self.head.parameters()) if id(one) not in known]
        self.groups = {"tower": tower, "merger": merger, "language": list(self.language.parameters())}
        self.optimizer = torch.optim.AdamW(
            [{"params": params, "name": name} for name, params in self.groups.items()],
            lr=1e-3,
            betas=(0.9, 0.98),
            weight_decay=0.01,
            fused=device.type == "cuda",
        )
        self.weights: dict[str, np.ndarray] = {}
        self.damping = rate
        self.merger_scale = 1.0
        self.good: dict[str, Any] | None = None
        self.spoke: float | None = None  # the share of the time at which the language model began
        self.ingester = Ingester(drawers, self.pool, self.validation)

    # The run.

    def run(self, clock: Clock, stages: tuple[str, ...]) -> None:
        """Run stages until the clock's end; failures are printed, and what is there is saved."""
        self.ingester.start()
        self._wait_for_records(clock)
        self.clock = clock
        clock.start = clock.now
        self.say(f"training starts with {self.pool.scenes} scenes and {self.pool.crops} crops")
        first = 0.0 if stages[0] == "see" else STAGES[list(STAGES)[list(STAGES).index(stages[0]) - 1]]
        for name in stages:
            # A run that starts at a later stage gives it all of the time.
            end = (STAGES[name] - first) / (1 - first)
            try:
                if name == "speak":
                    self.match_scales()
                if name != "see" and self.spoke is None:
                    self.spoke = clock.share
                self._stage(name, clock.until(end))
            except Exception:  # noqa: BLE001 (what is there is saved)
                self.say(f"stage {name} failed:\n{traceback.format_exc()}")
            if name == "see":
                continue
            if name in ("together", "habits"):
                self.keep("able" if name == "together" else "final")
            self.check(name, 30 if name == "speak" else self.plan.validation)
        self.ingester.stop()

    def _wait_for_records(self, clock: Clock) -> None:
        need = min(self.drawn, self.pool.capacity // 2)
        latest = clock.now + max(40, self.drawn / 10)
        while self.pool.scenes < need and clock.now < latest and not self.ingester.error:
            time.sleep(0.1)
        if self.ingester.error:
            raise RuntimeError("records cannot be taken") from self.ingester.error
        if not self.pool.scenes:
            raise RuntimeError(f"no scene was drawn in {clock.now:.0f} s ({self.drawers.drawn} records)")

    def _stage(self, name: str, end: float) -> None:
        step: Callable[[str], int] = self.see_step if name == "see" else self.speak_step
        seen = steps = failures = 0
        began = flushed = mark = self.clock.now
        saved_early = False
        self.say(f"stage {name} until {end:.0f} s, scale {self.scale:.2f}")
        while self.clock.now < end:
            self._set_rates()
            try:
                seen += step(name)
                self._update()
            except torch.OutOfMemoryError:
                self.optimizer.zero_grad(set_to_none=True)
                torch.cuda.empty_cache()
                self.scale *= 0.6
                self.say(f"out of memory: scale {self.scale:.2f}")
                if self.scale < 0.02:
                    raise
                continue
            except Exception:
                failures += 1
                if failures > 3:
                    raise
                self.optimizer.zero_grad(set_to_none=True)
                self.say(f"a step failed:\n{traceback.format_exc()}")
                continue
            steps += 1
            # Three steps for warming up, five that are timed.
            if self.device.type == "cuda" and steps in (3, 8):
                torch.cuda.synchronize()
                if steps == 8:
                    # Said, not adapted: on a GPU a smaller batch takes nearly as long (docs/results.md).
                    self.say(f"a step takes {(self.clock.now - mark) / 5:.3f} s; {self._memory()}")
                mark = self.clock.now
            if self.clock.now - flushed > _LOG_SECONDS:
                self._flush(name, steps, seen, self.clock.now - began)
                flushed = self.clock.now
                if self.ingester.error:
                    self.say(f"records are not taken any more: {self.ingester.error!r}")
                    self.ingester.error = None
                if name != "see" and not saved_early and self.clock.share > 0.6 and "able" not in self._kept:
                    saved_early = True
                    if "early" not in self._kept:
                        self.keep("early")
        self._flush(name, steps, seen, self.clock.now - began)

    def _memory(self) -> str:
        if self.device.type != "cuda":
            return ""
        return f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of GPU memory at most"

    def _set_rates(self) -> None:
        share = min(1.0, max(0.0, self.clock.share))
        warm = min(1.0, 0.1 + share / 0.02)
        tower = 1.0 if share < 0.3 else 0.5 * (1 + math.cos(math.pi * (share - 0.3) / 0.7))
        language = 1.0
        if self.spoke is not None:
            since = (share - self.spoke) / max(1e-6, 1 - self.spoke)
            language = min(1.0, 0.05 + since / 0.03) * min(
                1.0, 0.5 * (1 + math.cos(math.pi * max(0.0, (since - 0.25) / 0.75)))
            )
        rates = {
            "tower": _RATE["tower"] * max(0.01, warm * tower),
            "language": _RATE["language"] * max(0.01, warm * language),
        }
        rates["merger"] = self.merger_scale * rates["tower"]
        for group in self.optimizer.param_groups:
            group["lr"] = self.damping * rates[group["name"]]

    def _update(self) -> None:
        for parameters in self.groups.values():
            torch.nn.utils.clip_grad_norm_(parameters, 1.0, foreach=True)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    # Steps. Each accumulates gradients and returns its number of examples.

    def _count(self, base: int) -> int:
        return max(2, round(base * self.scale))

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.half)

    def _close_ups(self, crops: int, sheets: int) -> np.ndarray:
        """Crops of scenes, and sheets, by number."""
        is_sheet = self.pool.crop_world[: self.pool.crops] == self.pool.worlds
        parts = [np.zeros(0, np.int64)]
        for count, among in ((crops, np.flatnonzero(~is_sheet)), (sheets, np.flatnonzero(is_sheet))):
            if count and len(among):
                parts.append(among[self.rng.integers(0, len(among), count)])
        return np.concatenate(parts)

    def _see(self, images: Images, prefix: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens of images, and the loss of what is on them."""
        tokens = encode(self.visual, augmented(images.cells), images.grids)
        if not self.sees:
            return tokens, tokens.new_zeros(())
        return tokens, self.head.losses(self.pool, tokens, images, self.tally, prefix)

    def see_step(self, _: str) -> int:
        """The tower alone."""
        pool, rng = self.pool, self.rng
        half = self._count(_SEE["overviews"]) // 2
        plain, annotated = (
            pool.overviews(rng.integers(0, pool.scenes, half), annotated=outlined)
            for outlined in (False, True)
        )
        far = Images(
            torch.cat([plain.cells, annotated.cells]),
            torch.cat([plain.grids, annotated.grids]),
            np.concatenate([plain.things, annotated.things]),
            np.concatenate([plain.worlds, annotated.worlds]),
        )
        near = pool.close_ups(self._close_ups(self._count(_SEE["crops"]), self._count(_SEE["sheets"])))
        with self._autocast():
            loss = self._see(far, "far")[1] + self._see(near, "near")[1]
        loss.backward()  # type: ignore[no-untyped-call]
        return len(far.worlds) + len(near.worlds)

    def speak_step(self, stage: str) -> int:
        """Both."""
        pool = self.pool
        looks, reads = self._chosen(stage)
        look, read = batch_of(pool, pool.look, looks), batch_of(pool, pool.read, reads)
        far = [
            pool.overviews(batch["scene"], annotated=annotated)
            for batch, annotated in ((look, False), (read, True))
        ]
        overviews = Images(
            torch.cat([part.cells for part in far]),
            torch.cat([part.grids for part in far]),
            np.concatenate([part.things for part in far]),
            np.concatenate([part.worlds for part in far]),
        )
        crops = crops_of(pool, read["scene"])
        sheets = self._close_ups(0, self._count(_SPEAK["sheets"]) if self.sees else 0)
        near = pool.close_ups(np.concatenate([crops, sheets]))
        with self._autocast():
            far_tokens, far_loss = self._see(overviews, "far")
            near_tokens, near_loss = self._see(near, "near")
            if stage == "speak":
                far_tokens, near_tokens = far_tokens.detach(), near_tokens.detach()
            losses = (far_loss + near_loss) * (1.0 if stage == "speak" else 0.3)
            evidence = with_crops(pool, read["scene"], far_tokens[len(looks) :], near_tokens[: len(crops)])
            for batch, visual in ((look, far_tokens[: len(looks)]), (read, evidence)):
                losses = losses + self._language_loss(batch, visual, 1.0 if stage == "speak" else 0.4)
        losses.backward()  # type: ignore[no-untyped-call]
        return len(looks) + len(reads)

    def _language_loss(self, batch: dict[str, Any], visual: torch.Tensor, aiming: float) -> torch.Tensor:
        text, aims, exact, looked = language_losses(self.language, batch, visual)
        weights = self.pool.send(
            np.array([_WEIGHTS.get(KINDS[kind], 1.0) for kind in batch["kind"]], np.float32)
        )
        worlds = self.pool.send(batch["world"])
        for kind in np.unique(batch["kind"]):
            rows = self.pool.send(np.flatnonzero(batch["kind"] == kind))
            self.tally.add(f"{KINDS[kind]} loss", worlds[rows], text[rows])
            self.tally.add(f"{KINDS[kind]} exact", worlds[rows], exact[rows])
        self.tally.add(f"{KINDS[batch['kind'][0]]} looked", worlds[:1], looked[None])
        total: torch.Tensor = (text * weights).sum() / weights.sum() + aiming * aims
        return total

    def _chosen(self, stage: str) -> tuple[np.ndarray, np.ndarray]:
        """The rows of a step: those that look, those that read."""
        pool, rng = self.pool, self.rng
        count = self._count(_SPEAK["look"])
        parts = []
        for kind, share in _LOOKS[stage].items():
            wanted = round(count * share)
            if kind == "perceive" and stage == "habits":
                parts += self._hasty(pool.look, "perceive", "glance", wanted)
            else:
                parts.append(pool.look.choose(kind, wanted, rng, self.weights.get(kind)))
        reading = self._count(_SPEAK["read"])
        if stage == "habits":
            reads = self._hasty(pool.read, "reason", "hasty", reading)
        else:
            reads = [pool.read.choose("reason", reading, rng, self.weights.get("reason"))]
        return np.concatenate(parts), np.concatenate(reads)

    def _hasty(self, rows: Any, whole: str, part: str, count: int) -> list[np.ndarray]:
        """Rows of which those that could be hasty are so with the probability of `HASTE`."""
        wholes, parts = (
            sum(len(rows.group(kind, world)) for world in range(self.pool.worlds)) for kind in (whole, part)
        )
        able, haste = parts / max(1, wholes), HASTE[whole]
        hurried = able * haste / (1 - haste)
        first = round(count / (1 + hurried))
        return [rows.choose(whole, first, self.rng), rows.choose(part, count - first, self.rng)]

    @torch.no_grad()
    def match_scales(self) -> None:
        """Divide the merger's last layer so that visual tokens are as large as word embeddings.

        Its rate and what the optimizer knows of its gradients change as well, so that it goes on learning as
        before: the head does not depend on the size of tokens.
        """
        images = self.pool.close_ups(self.rng.integers(0, self.pool.crops, 48))
        with self._autocast():
            tokens = encode(self.visual, images.cells, images.grids).float()
        used = images.grids.prod(1).to(self.device)
        valid = torch.arange(tokens.shape[1], device=self.device) < used[:, None]
        words = self.language.embed_tokens.weight
        factor = words.norm(dim=-1).mean() / tokens.norm(dim=-1)[valid].mean()
        merger = self.visual.merger.linear_fc2
        self.merger_scale = float(factor)
        for parameter in merger.parameters():
            parameter.mul_(factor)
            state = self.optimizer.state.get(parameter, {})
            for key, power in (("exp_avg", 1), ("exp_avg_sq", 2)):
                if key in state:
                    state[key].div_(factor**power)
        self.say(f"visual tokens are multiplied by {float(factor):.3f}")

    # Records of the run.

    _kept: tuple[str, ...] = ()

    def say(self, text: str) -> None:
        """A line with the time."""
        now = self.clock.now if hasattr(self, "clock") else 0.0
        print(f"[{now:6.1f} s] {text}", flush=True)

    def _log(self, row: dict[str, Any]) -> None:
        with (self.out / "log.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(row) + "\n")

    def _flush(self, stage: str, steps: int, seen: int, seconds: float) -> None:
        means = self.tally.flush()
        row = {"stage": stage, "step": steps, "seconds": round(self.clock.now, 1), "means": means}
        self._log(row)
        shown = "  ".join(f"{name} {values['all']:.3g}" for name, values in means.items())
        self.say(
            f"{stage} {steps}: {seen / max(seconds, 1e-6):.0f}/s, {steps / max(seconds, 1e-6):.1f} steps/s, "
            f"{self.pool.scenes} scenes {self.pool.crops} crops  {shown}"
        )
        for name in ("far place", "near value", "perceive exact", "reason exact"):
            if name in means:
                by_world = "  ".join(f"{w} {v:.2f}" for w, v in means[name].items() if w != "all")
                print(f"           {name}: {by_world}", flush=True)
        self._weigh(means)
        self._guard(means)

    def _weigh(self, means: dict[str, dict[str, float]]) -> None:
        """Worlds of which fewer rows are right come more often."""
        for kind in ("perceive", "think", "drill", "reason"):
            exact = means.get(f"{kind} exact")
            if exact:
                shares = [0.25 + 1 - exact[w] if w in exact else 1.0 for w in self.plan.worlds]
                self.weights[kind] = np.array(shares + [0.0] * len(self.plan.held_out))

    def _guard(self, means: dict[str, dict[str, float]]) -> None:
        """Return to the last good weights, with a lower rate, if a loss is not a number."""
        finite = all(math.isfinite(values["all"]) for values in means.values())
        modules = {"model": self.model, "head": self.head}
        if finite and means:
            self.good = {
                name: {key: value.detach().clone() for key, value in module.state_dict().items()}
                for name, module in modules.items()
            }
        elif not finite and self.good:
            for name, module in modules.items():
                module.load_state_dict(self.good[name])
            self.optimizer.state.clear()
            self.damping *= 0.5
            self.say(f"a loss is not a number: back to the last good weights, rates × {self.damping}")

    def check(self, stage: str, most: int) -> None:
        """Measure both roles on validation scenes."""
        if self.validation.scenes == 0 or most == 0:
            return
        try:
            self.model.eval()
            results = validate(self.model, self.tokenizer, self.validation, self.plan, self.settings, most)
            self._log({"stage": stage, "seconds": round(self.clock.now, 1), "validation": results})
            for measure, values in results.items():
                self.say(f"{stage}: {measure}: " + "  ".join(f"{w} {v:.1f}" for w, v in values.items()))
        except Exception:  # noqa: BLE001 (figures only)
            self.say(f"validation failed:\n{traceback.format_exc()}")
        finally:
            self.model.train()

    def keep(self, name: str) -> None:
        """Write a checkpoint folder, or parts of a tar file of at most 15 MiB."""
        folder = self.out / name
        try:
            shutil.rmtree(folder, ignore_errors=True)
            save(self.model, self.processor, self.settings, folder)
            head = {key: value.to("cpu", torch.float32) for key, value in self.head.state_dict().items()}
            half = {key: v.bfloat16() if key.endswith(("weight", "bias")) else v for key, v in head.items()}
            torch.save(half, folder / "see_head.pt")
            self._kept = (*self._kept, name)
            if self.pack:
                pack_parts(folder)
                shutil.rmtree(folder)
            if name == "able":
                for part in self.out.glob("early*"):
                    shutil.rmtree(part) if part.is_dir() else part.unlink()
            self.say(f"kept {name}")
        except Exception:  # noqa: BLE001 (the run goes on)
            self.say(f"{name} was not kept:\n{traceback.format_exc()}")


def pack_parts(folder: Path) -> None:
    """Write `FOLDER.tar.0`, `FOLDER.tar.1` …: `cat FOLDER.tar.* | tar x` gives the folder back."""
    whole = folder.with_suffix(".tar")
    with tarfile.open(whole, "w") as archive:
        archive.add(folder, folder.name)
    with whole.open("rb") as source:
        number = 0
        while part := source.read(_PART_BYTES):
            folder.with_suffix(f".tar.{number}").write_bytes(part)
            number += 1
    whole.unlink()
