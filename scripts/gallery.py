"""The gallery of the documents: a scene of each world with its question, evidence and answer.

Writes docs/gallery.md and docs/images/gallery/*.jpg. Boxes and answers are the gold ones, or a model's.

    python -m scripts.gallery                   # gold boxes
    python -m scripts.gallery --model nano      # a model's boxes and answers, right or wrong
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from p2r import P2R
from p2r.datasets.samples import read_samples
from p2r.evidence import crop_region
from p2r.images import ImageSource
from p2r.scenes import WORLDS, make_sample
from p2r.scenes.photos import Photographs, write_planted
from p2r.settings import Settings
from p2r.types import Answer, Prediction
from p2r.visualization.figure import figure

if TYPE_CHECKING:
    from p2r.types import Sample

DOCS = Path(__file__).parent.parent / "docs"
WIDTH, QUALITY = 1100, 80  # of the files, so that all of them stay under 3 MB
SIZE = "3840x2560"
BACKGROUND = (3840, 2560)
SHOWN = ("compare", "arithmetic", "read", "which")  # the families, in turn
HEAD = """# Gallery

A question of each world of [`p2r scenes`](data.md#scenes), {size} pixels, with its evidence and answer.
{source} `python -m scripts.gallery{options}` draws this page.
"""
OWN = """
## Your own photographs

`p2r scenes OUT --background FOLDER` plants labels, plates, stickers and signs into photographs. The
background here is drawn, so that no photograph needs to be published; yours are used at full resolution.
"""


def landscape(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """A background that has what photographs have: sky, distance with haze, rough ground, blur and grain.

    Args:
        size: (width, height) in pixels.
        seed: another one.
    """
    width, height = size
    rng = np.random.default_rng(seed)

    def clouds(across: int, down: int) -> np.ndarray:
        cells = Image.fromarray(rng.random((max(2, down), max(2, across)), dtype=np.float32))
        return np.asarray(cells.resize(size, Image.Resampling.BICUBIC))[..., None]

    rows = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    columns = np.linspace(0, 1, width)
    top, bottom = np.array((112, 150, 205), np.float32), np.array((255, 236, 208), np.float32)
    image = top + (bottom - top) * rows + 40 * (clouds(5, 9) - 0.5) * (1 - rows)
    patches, tufts, grit = clouds(12, 20), clouds(width // 40, height // 30), clouds(width // 5, height // 4)
    for near, (level, color) in enumerate(
        ((0.42, (128, 142, 160)), (0.5, (104, 122, 108)), (0.6, (158, 138, 98)))
    ):
        waves = [(count, rng.uniform(0, 6), 0.04 / count) for count in (1.5, 2.3, 3.9, 7, 13, 29)]
        outline = np.full(width, level)
        for count, phase, high in waves:
            outline += high * np.sin(6 * count * columns + phase)
        rough = (
            1 + (0.1 + 0.12 * near) * (patches + tufts - 1) + 0.25 * near * (grit - 0.5) + 0.3 * (rows - 0.6)
        )
        image = np.where(rows > outline[None, :, None], np.array(color, np.float32) * rough, image)
    flat = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.8))
    grain = 3 * rng.standard_normal((height, width, 1), np.float32)
    return Image.fromarray(np.clip(np.asarray(flat) + grain, 0, 255).astype(np.uint8))


def planted_sample(folder: Path) -> tuple[Sample, tuple[str, ...]]:
    """A question on a drawn background, as `p2r scenes --background` makes them, and its facts."""
    backgrounds, out = folder / "backgrounds", folder / "planted"
    backgrounds.mkdir()
    for seed in range(3):
        landscape(BACKGROUND, seed).save(backgrounds / f"{seed}.jpg", quality=95)
    rows = list(write_planted(out, Photographs(backgrounds, out), split="test", count=8))
    pairs = zip(read_samples(out / "samples.jsonl"), rows, strict=True)
    sample, row = min(pairs, key=lambda pair: pair[0].category not in ("compare", "arithmetic"))
    return sample, tuple(row["facts"])


def draw(sample: Sample, facts: tuple[str, ...], model: P2R | None, path: Path) -> None:
    """The figure of a sample, as a small JPEG file."""
    question, settings = sample.question, Settings()
    source = ImageSource.open(question.images[0])
    if model is None:
        boxes = sample.boxes or ()
        crops = tuple(crop_region(box, source.size, settings.geometry) for box in boxes)
        reply = Answer(sample.answer, thinking=" ".join(facts))
        shown = Prediction(
            question.id, "p2r", "answered", reply, boxes=boxes, crops_px=crops, model="gold boxes"
        )
    else:
        [shown] = model.answer_many([question])
    image = figure(shown, question, gold=sample.answer)
    image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS).save(
        path, quality=QUALITY, optimize=True
    )


def main() -> None:
    """Draw all figures and write the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a model's boxes and answers instead of the gold ones")
    spec = parser.parse_args().model
    model = P2R(spec) if spec else None
    folder = DOCS / "images" / "gallery"
    folder.mkdir(parents=True, exist_ok=True)
    source = f"Boxes and answers are those of `{spec}`." if spec else "Boxes and answers are the gold ones."
    page = [
        HEAD.format(size=SIZE.replace("x", " × "), source=source, options=f" --model {spec}" if spec else "")
    ]
    for number, world in enumerate(WORLDS.values()):
        families = [family for family in SHOWN if family in world.families]
        family = families[number % len(families)]
        made = make_sample("test", number, size=SIZE, family=family, world=world.name)
        draw(made.sample(), made.task.facts, model, folder / f"{world.name}.jpg")
        title = f"{world.title[0].upper()}{world.title[1:]} (`--world {world.name}`)"
        page.append(f"\n## {title}\n\n![{made.task.text}](images/gallery/{world.name}.jpg)\n")
    with tempfile.TemporaryDirectory() as temporary:
        sample, facts = planted_sample(Path(temporary))
        draw(sample, facts, model, folder / "photos.jpg")
    page.append(f"{OWN}\n![{sample.question.text}](images/gallery/photos.jpg)\n")
    (DOCS / "gallery.md").write_text("".join(page), encoding="utf-8")
    total = sum(path.stat().st_size for path in folder.glob("*.jpg"))
    print(f"{DOCS / 'gallery.md'}: {len(list(folder.glob('*.jpg')))} figures, {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
