"""What a run is trained on: samples with gold answers, checked before anything is loaded.

From a file of samples or from scenes. An image that cannot be read, and a free-form answer without a judge,
are errors here, named, and never zeros in a reward.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2r.datasets.samples import read_samples
from p2r.errors import InputError
from p2r.images import ImageSource
from p2r.models.options import split_spec
from p2r.settings import Settings
from p2r.training.run_folder import DATA, read_json
from p2r.training.scenes import draw_scenes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from p2r.training.recipe import Recipe
    from p2r.types import Sample

EXACT = "exact"  # recipe.judge: free-form answers are right when their texts match


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The samples of a run.

    Attributes:
        samples: in the order of their file, after `limit`.
        source: the file.
        fingerprint: twelve hex digits over questions, answers and images.
        notes: what a person should know: inferred answer types, for example.
    """

    samples: list[Sample]
    source: Path
    fingerprint: str
    notes: tuple[str, ...] = ()

    def report(self) -> dict[str, Any]:
        """What `data.json` holds."""
        kinds = Counter(sample.question.answer_type for sample in self.samples)
        return {
            "source": str(self.source),
            "samples": len(self.samples),
            "fingerprint": self.fingerprint,
            "answer_types": dict(kinds),
            "categories": dict(Counter(sample.category for sample in self.samples)),
            "gold_boxes": sum(sample.boxes is not None for sample in self.samples),
            "notes": list(self.notes),
        }


def prepare_data(recipe: Recipe, out: Path, on_progress: Callable[[str], None] | None = None) -> TrainingData:
    """Draw or read the samples of a recipe, and check them.

    Args:
        recipe: the run.
        out: the run folder; scenes are drawn there unless the recipe names another folder.
        on_progress: is told what is being done.

    Raises:
        InputError: the file is wrong, an image cannot be opened, or a free-form answer has no judge.
    """
    tell = on_progress or (lambda _text: None)
    source = _source(recipe, out, tell)
    tell("reading samples")
    data = load_data(recipe, source)
    _check_images(data.samples, tell)
    free = sum(sample.question.answer_type == "free" for sample in data.samples)
    if free and recipe.judge is None:
        raise InputError(
            f"{free} of {len(data.samples)} samples have free-form answers and there is no judge: set judge "
            f"to a model, or to {EXACT!r} if only matching texts shall count"
        )
    return data


def load_data(recipe: Recipe, source: Path) -> TrainingData:
    """Read the samples without checking images: what `prepare_data` returned, in another process."""
    samples = read_samples(source)
    notes = []
    if inferred := _without_type(source):
        notes.append(f"{inferred} samples name no answer type: it was inferred from their answers")
    if recipe.data.limit is not None and recipe.data.limit < len(samples):
        chosen = sorted(random.Random(f"limit-{recipe.seed}").sample(range(len(samples)), recipe.data.limit))
        notes.append(f"{len(chosen)} of {len(samples)} samples were drawn by the seed")
        samples = [samples[index] for index in chosen]
    return TrainingData(samples, source, _fingerprint(samples, source.parent), tuple(notes))


def read_data(recipe: Recipe, out: Path) -> TrainingData:
    """The samples of a run that was prepared.

    Raises:
        InputError: the run has no data yet, or they have changed.
    """
    known = read_json(out / DATA)
    data = load_data(recipe, Path(known["source"]))
    if data.fingerprint != known["fingerprint"]:
        raise InputError(f"{data.source} has changed since {out} was begun: restore it, or use another --out")
    return data


def settings_of(recipe: Recipe) -> Settings:
    """The settings of a run: those of its model, the recipe's changes, and the options in the model's spec.

    Raises:
        InputError: names the key that is wrong.
    """
    from p2r.models.loading import settings_for

    spec, changes = split_spec(recipe.model)
    settings = (settings_for(spec) or Settings()).updated(recipe.settings, where="recipe: settings")
    options = settings.options.updated(changes, where=f"recipe: model {recipe.model}")
    return replace(settings, options=options)


def _source(recipe: Recipe, out: Path, tell: Callable[[str], None]) -> Path:
    if recipe.data.samples is not None:
        return Path(recipe.data.samples)
    scenes = recipe.data.scenes
    if scenes is None:  # the recipe checks that one of the two is there
        raise InputError("the recipe names no data")
    folder = Path(scenes.folder) if scenes.folder else out / "scenes"
    return draw_scenes(folder, scenes, lambda done: tell(f"drawing scenes: {done} of {scenes.count}"))


def _check_images(samples: Sequence[Sample], tell: Callable[[str], None]) -> None:
    images = {str(sample.question.image)[:500]: sample for sample in samples}
    broken: list[str] = []

    def check(sample: Sample) -> None:
        try:
            ImageSource.open(sample.question.image)
        except InputError as error:
            broken.append(f"sample {sample.question.id}: {error}")

    with ThreadPoolExecutor(8) as pool:
        for done, _ in enumerate(pool.map(check, images.values()), start=1):
            if done % 500 == 0:
                tell(f"opening images: {done} of {len(images)}")
    if broken:
        more = f" (and {len(broken) - 1} more)" if len(broken) > 1 else ""
        raise InputError(f"{min(broken)}{more}; mend it, or take the sample out of the data")


def _without_type(source: Path) -> int:
    with source.open(encoding="utf-8-sig") as lines:
        return sum("answer_type" not in json.loads(line) for line in lines if line.strip())


def _fingerprint(samples: Sequence[Sample], root: Path) -> str:
    digest = hashlib.sha256()
    for sample in samples:
        question = sample.question
        image = str(question.image)
        if not image.startswith("data:"):
            # The folder may move; an image that was replaced seldom keeps its size in bytes.
            image = f"{Path(image).relative_to(root) if Path(image).is_relative_to(root) else image}"
        parts = [question.id, question.text, *question.choices, sample.answer, *sample.aliases, image]
        digest.update("\0".join(parts).encode(errors="surrogateescape") + b"\n")
    return digest.hexdigest()[:12]
