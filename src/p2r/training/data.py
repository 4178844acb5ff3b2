"""The samples of a run, checked before anything is loaded, and the rows of TRL's dataset made of them.

Rows hold different numbers of images: one in a perceiver phase, overview and crops in a reasoner phase. The
messages are those of every other entry point; images are cut when a batch is read, once for all completions
of a prompt.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from p2r.datasets.samples import read_samples
from p2r.errors import InputError
from p2r.evidence import OUTLINE_COLORS, build_evidence, plain_overview, plan_sizes
from p2r.images import ImageSource
from p2r.models.base import Message, Sampling
from p2r.models.loading import settings_for
from p2r.models.options import split_spec
from p2r.parsing.perception import parse_perception
from p2r.pipeline import OpenedImage
from p2r.prompts import direct_messages, perceive_messages, reason_messages
from p2r.runs.files import (
    NO_LIMIT,
    claim,
    encode_json,
    folder_lock,
    read_json,
    write_file,
    write_json,
)
from p2r.scenes import make_samples
from p2r.scenes.files import draw_files
from p2r.settings import Settings
from p2r.training.run_folder import DATA, DataRecord
from p2r.types import Box, Crop, Evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from p2r.models.encoding import PromptEncoder
    from p2r.training.recipe import Phase, Recipe, Role
    from p2r.types import Perception, Question, Sample

EXACT = "exact"  # recipe.judge: free-form answers are right when their texts match
SERIES = "scenes.json"


def prepare_data(
    recipe: Recipe, out: Path, on_progress: Callable[[str], None] | None = None
) -> tuple[list[Sample], DataRecord]:
    """Draw or read the samples of a recipe, and check them.

    Raises:
        InputError: the file is wrong, an image cannot be opened, or a free-form answer has no judge.
    """
    tell = on_progress or (lambda _text: None)
    source = find_samples(recipe, out, tell)
    tell("reading samples")
    samples, record = load_data(recipe, source)
    _, broken = unreadable_images(samples, tell)
    if broken:
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise InputError(f"{broken[0]}{more}; correct it, or take the sample out of the data")
    free = record.answer_types.get("free", 0)
    if free and recipe.judge is None:
        raise InputError(
            f"{free} of {record.samples} samples have free-form answers and there is no judge: set judge "
            f"to a model, or to {EXACT!r} if only matching texts count"
        )
    return samples, record


def find_samples(recipe: Recipe, out: Path, tell: Callable[[str], None]) -> Path:
    """The file of samples of a recipe; its scenes are drawn on all cores, below `out` or elsewhere.

    That folder may hold scenes of the same series from another run; they are kept.
    """
    scenes = recipe.data.scenes
    if scenes is None:
        return Path(recipe.data.samples or "")
    folder = Path(scenes.folder) if scenes.folder else out / "scenes"
    series = {"split": "train", **scenes.model_dump(exclude={"count", "folder"})}
    if scenes.world == "tags":  # as older folders say it
        del series["world"]
    try:
        claim(folder, SERIES, ("images", "samples-*.jsonl"))
        # Runs that share a folder and start together wait for each other here.
        with folder_lock(folder, wait_s=NO_LIMIT):
            path = folder / SERIES
            if path.exists() and (there := read_json(path)) != series:
                raise InputError(
                    f"{folder} holds other scenes ({there}): set data.scenes.folder to another folder"
                )
            write_json(path, series)
            (folder / "images").mkdir(exist_ok=True)
            made = []
            for scene in make_samples(
                "train", scenes.count, seed=scenes.seed, size=scenes.size, world=scenes.world
            ):
                width, height = (round(scenes.scale * side) for side in scene.size)
                made.append(replace(scene, size=(width, height)))
            jobs = [(scene, folder / scene.file) for scene in made]
            for done, _ in enumerate(draw_files(jobs, workers=os.cpu_count() or 1), 1):
                tell(f"drawing scenes: {done} of {scenes.count}")
            samples = folder / f"samples-{scenes.count}.jsonl"
            if not samples.exists():
                write_file(samples, b"".join(encode_json(scene.row()) + b"\n" for scene in made))
    except OSError as error:
        raise InputError(f"cannot write scenes to {folder}: {error.strerror or error}") from error
    return samples


def load_data(recipe: Recipe, source: Path) -> tuple[list[Sample], DataRecord]:
    """The samples in a file, in their order and after `data.limit`, without checking their images."""
    samples = read_samples(source)
    for sample in samples:
        if (count := len(sample.question.images)) > 1:
            raise InputError(
                f"sample {sample.question.id}: it has {count} images; training takes one a question"
            )
    notes = []
    with source.open(encoding="utf-8-sig") as lines:
        inferred = sum("answer_type" not in json.loads(line) for line in lines if line.strip())
    if inferred:
        notes.append(f"{inferred} samples name no answer type: it was inferred from their answers")
    if recipe.data.limit is not None and recipe.data.limit < len(samples):
        chosen = sorted(random.Random(f"limit-{recipe.seed}").sample(range(len(samples)), recipe.data.limit))
        notes.append(f"{len(chosen)} of {len(samples)} samples were drawn by the seed")
        samples = [samples[index] for index in chosen]
    record = DataRecord(
        source=str(source),
        samples=len(samples),
        fingerprint=_fingerprint(samples, source.parent),
        answer_types=dict(Counter(sample.question.answer_type for sample in samples)),
        categories=dict(Counter(sample.category for sample in samples)),
        gold_boxes=sum(sample.boxes is not None for sample in samples),
        notes=notes,
    )
    return samples, record


def read_data(recipe: Recipe, out: Path) -> list[Sample]:
    """The samples of a run that was prepared; InputError when they have changed."""
    known = DataRecord.read(out / DATA)
    samples, record = load_data(recipe, Path(known.source))
    if record.fingerprint != known.fingerprint:
        raise InputError(
            f"{known.source} has changed since {out} was started: restore it, or use another --out"
        )
    return samples


def settings_of(recipe: Recipe) -> Settings:
    """The settings of a run: those of its model with the recipe's changes, and the options of its spec."""
    spec, changes = split_spec(recipe.model)
    settings = (settings_for(spec) or Settings()).updated(recipe.settings, where="recipe: settings")
    options = settings.options.updated(changes, where=f"recipe: model {recipe.model}")
    return replace(settings, options=options)


def unreadable_images(
    samples: Sequence[Sample], tell: Callable[[str], None], *, decode: bool = False
) -> tuple[int, list[str]]:
    """Open every image once; `decode` reads all of its bytes. Their number, and what is wrong with which."""
    images = {str(sample.question.image)[:500]: sample for sample in samples}
    broken: list[str] = []

    def check(sample: Sample) -> None:
        try:
            image = ImageSource.open(sample.question.images[0])
            if decode:
                image.overview((32, 32))
        except InputError as error:
            broken.append(f"sample {sample.question.id}: {error}")

    with ThreadPoolExecutor(8) as pool:
        for done, _ in enumerate(pool.map(check, images.values()), start=1):
            if done % 100 == 0:
                tell(f"opening images: {done} of {len(images)}")
    return len(images), sorted(broken)


def _fingerprint(samples: Sequence[Sample], root: Path) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        question = sample.question
        image = str(question.image)
        if not image.startswith("data:"):
            # The folder may move.
            image = f"{Path(image).relative_to(root) if Path(image).is_relative_to(root) else image}"
        parts = [question.id, question.text, *question.choices, sample.answer, *sample.aliases, image]
        digest.update("\0".join(parts).encode(errors="surrogateescape") + b"\n")
    return digest.hexdigest()[:12]


# The rows.


def image_cache(samples: Sequence[Sample], settings: Settings, keep: int) -> Callable[[int], OpenedImage]:
    """Index of a sample → its image and overview; the last `keep` stay open."""

    @lru_cache(keep)
    def opened(index: int) -> OpenedImage:
        source = ImageSource.open(samples[index].question.images[0])
        return OpenedImage(source, plain_overview(source, settings))

    return opened


@dataclass(frozen=True, slots=True)
class RolloutDataset:
    """The conversations about the samples of a run."""

    samples: Sequence[Sample]  # of the run
    settings: Settings
    images: Callable[[int], OpenedImage]  # by the index of their sample
    # The frozen perceiver's boxes of each sample, by index: what a reasoner is shown.
    boxes: dict[int, tuple[Box, ...]] = field(default_factory=dict)

    def messages(self, role: Role, index: int) -> tuple[Message, ...]:
        """The conversation of a role about sample `index`."""
        image = self.images(index)
        evidence = Evidence(image.overview)
        if role == "reasoner":
            evidence = build_evidence(image.source, self.boxes[index], self.settings, image.overview)
        return _role_messages(role, self.samples[index].question, self.settings, evidence)

    def perception(self, index: int, text: str) -> Perception:
        """A perceiver's text about sample `index`, parsed."""
        box_format = self.settings.box_format
        size = self.images(index).overview.size if box_format == "pixels" else None
        return parse_perception(text, box_format, size)

    def for_trl(self, roles: Sequence[Role], order: Sequence[int], encoder: PromptEncoder) -> Any:
        """A `datasets.Dataset` of the samples in this order, a row for each role.

        Columns: `prompt`, `images`, `role`, `index` (of the sample).
        """
        from datasets import Dataset

        def row(role: Role, index: int) -> tuple[list[dict[str, Any]], list[Any]]:
            messages = self.messages(role, index)
            parts = [part for message in messages for part in message.content]
            images = [part.to_pil() for part in parts if not isinstance(part, str)]
            return encoder.conversation(messages), images

        def transform(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
            keys = list(zip(batch["role"], batch["index"], strict=True))
            unique = list(dict.fromkeys(keys))
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(self.images, dict.fromkeys(batch["index"])))  # each is opened once
                rows = dict(zip(unique, pool.map(row, *zip(*unique, strict=True)), strict=True))
            return {
                "prompt": [rows[key][0] for key in keys],
                "images": [rows[key][1] for key in keys],
                **batch,
            }

        columns = {"role": list(roles) * len(order), "index": [index for index in order for _ in roles]}
        return Dataset.from_dict(columns).with_transform(transform)


def _role_messages(
    role: Role, question: Question, settings: Settings, evidence: Evidence
) -> tuple[Message, ...]:
    if role == "perceiver":
        return perceive_messages(settings.prompts, question, evidence.overview, settings.box_format)
    if role == "direct":
        return direct_messages(settings.prompts, question, evidence.overview)
    return reason_messages(settings.prompts, question, evidence)


# The lengths of prompts and completions.

_STAGE = {"perceiver": "perceive", "reasoner": "reason", "think": "reason", "direct": "direct"}


def reply_tokens(phase: Phase, role: Role, settings: Settings) -> int:
    """The most new tokens of a rollout, without `options.thinking_tokens`."""
    return phase.max_tokens or int(getattr(settings.max_tokens, _STAGE[role]))


def token_limits(phase: Phase, settings: Settings) -> dict[Role, int]:
    """Trained role → the most new tokens of its rollouts, with those for thinking."""
    limits = {role: Sampling(reply_tokens(phase, role, settings)) for role in phase.roles}
    return {role: settings.options.widened(limit).max_tokens for role, limit in limits.items()}


def draw_order(count: int, wanted: int, seed: str) -> list[int]:
    """The samples of a phase: shuffled passes over `count` samples, `wanted` in all."""
    rng = random.Random(seed)
    order: list[int] = []
    while len(order) < wanted:
        order += rng.sample(range(count), count)
    return order[:wanted]


def prompt_tokens(
    sample: Sample, role: Role, settings: Settings, encoder: PromptEncoder, processor: Any
) -> int:
    """The tokens of a prompt: of the text as rendered, and one for each `factor`² pixels of the images.

    The crops of a reasoner are not known before its perceiver has run: the longest evidence is counted.
    """
    size = ImageSource.open(sample.question.images[0]).size
    regions = [(0, 0, *size)] * settings.geometry.max_crops if role == "reasoner" else []
    # The text alone: images are counted, not cut.
    width, height = plan_sizes(size, (), settings.budget).overview
    blank: Any = SimpleNamespace(width=width, height=height)
    crops = [
        Crop(blank, Box(0, 0, 1000, 1000, ""), region, color)
        for region, (color, _) in zip(regions, cycle(OUTLINE_COLORS), strict=False)
    ]
    messages = _role_messages(role, sample.question, settings, Evidence(blank, tuple(crops)))
    text = [
        Message(one.role, tuple(part for part in one.content if isinstance(part, str))) for one in messages
    ]
    words = len(processor.tokenizer(encoder.render(text))["input_ids"])
    return words + plan_sizes(size, regions, settings.budget).tokens + 2 * (1 + len(regions))


def measure_prompts(
    samples: Sequence[Sample],
    recipe: Recipe,
    phase: Phase,
    settings: Settings,
    encoder: PromptEncoder,
    processor: Any,
) -> tuple[list[int], int]:
    """The tokens of each sample's longest prompt, and the most that a prompt may have."""
    lengths = [
        max(prompt_tokens(sample, role, settings, encoder, processor) for role in phase.roles)
        for sample in samples
    ]
    room = encoder.context_tokens - max(token_limits(phase, settings).values())
    return lengths, recipe.data.max_prompt_tokens or room


def keep_short(samples: Sequence[Sample], recipe: Recipe, lengths: Sequence[int], most: int) -> list[Sample]:
    """The samples whose prompts fit; InputError when more than `data.max_dropped` do not.

    `lengths` and `most` are from `measure_prompts`.
    """
    kept = [sample for sample, length in zip(samples, lengths, strict=True) if length <= most]
    dropped = len(samples) - len(kept)
    found = f"{dropped} of {len(samples)} prompts are longer than {most} tokens"
    if dropped:
        print(found, flush=True)  # noqa: T201 - into the log of the phase
    if dropped > recipe.data.max_dropped * len(samples):
        raise InputError(
            f"{found} (the longest has {max(lengths)}), more than data.max_dropped allows: raise "
            "data.max_prompt_tokens, up to the model's context, or lower the pixel budgets"
        )
    return kept
