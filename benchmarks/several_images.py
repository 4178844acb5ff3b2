"""Three scenes in one question, of which one holds the evidence: is the image named, and the answer right?

    python benchmarks/several_images.py --model nano --n 60
    python benchmarks/several_images.py --model http://localhost:8000/v1#nano --settings-of nano

The other two scenes have no object in the colors that the question names. Asked in both ways of
`Settings.perceive_images`, and with the gold boxes. An image is *named* if every box lies in it.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import itertools
import random
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import PIL.Image

from p2r import P2R, ImageSource
from p2r.evaluation.statistics import wilson
from p2r.pipeline import settings_of
from p2r.scenes import make_sample
from p2r.scoring.localization import localize

if TYPE_CHECKING:
    from p2r.settings import Settings
    from p2r.types import Prediction, Sample

IN_FLIGHT = 8


def jpeg(sample: Any) -> bytes:
    """A scene as a file, which is smaller than its pixels."""
    file = io.BytesIO()
    PIL.Image.fromarray(sample.render()).save(file, "JPEG", quality=92)
    return file.getvalue()


def triple(index: int, size: str) -> Sample | None:
    """A question about three scenes, of which one holds the evidence; None if a whole image is needed."""
    made = make_sample("test", index, size=size)
    colors = {target.name.split()[0] for target in made.task.targets}
    if not colors:
        return None
    others = (make_sample("test", other, size=size) for other in itertools.count(10_000 + 1_000 * index))
    strange = (one for one in others if not colors & {thing.name.split()[0] for thing in one.scene.objects})
    images = [jpeg(one) for one in itertools.islice(strange, 2)]
    place = random.Random(index).randrange(3)
    images.insert(place, jpeg(made))
    sample = made.sample(b"")
    boxes = tuple(replace(box, image=place) for box in made.boxes)
    return replace(sample, question=replace(sample.question, image=images), boxes=boxes)


async def answers(model: str, settings: Settings, samples: list[Sample], way: str) -> list[Prediction]:
    """The predictions of one way."""
    if way != "gold":
        settings = replace(settings, perceive_images=way)
    slots = asyncio.Semaphore(IN_FLIGHT)

    async def one(sample: Sample) -> Prediction:
        async with slots:
            boxes = sample.boxes if way == "gold" else None
            return await p2r.predict(sample.question, boxes=boxes, errors="return")

    async with P2R(model, settings=settings) as p2r:
        return await asyncio.gather(*map(one, samples))


def main() -> None:
    """Ask, and print the shares of each way with 95 % intervals."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="nano")
    parser.add_argument("--settings-of", help="another model whose settings are used")
    parser.add_argument("--n", type=int, default=60)
    parser.add_argument("--size", default="2k")
    arguments = parser.parse_args()
    found = (triple(index, arguments.size) for index in itertools.count())
    samples = list(itertools.islice(filter(None, found), arguments.n))
    settings = settings_of(arguments.settings_of or arguments.model)
    for way in ("together", "apart", "gold"):
        counts: Counter[str] = Counter()
        predictions = asyncio.run(answers(arguments.model, settings, samples, way))
        for sample, prediction in zip(samples, predictions, strict=True):
            gold = sample.boxes or ()
            size, *others = (ImageSource.open(image).size for image in sample.question.images)
            located = localize(gold, prediction.boxes, prediction.crops_px, size, others)
            counts["image named"] += {box.image for box in prediction.boxes} == {gold[0].image}
            counts["evidence in the crops"] += located.complete
            counts["right"] += prediction.answer == sample.answer
            counts["failed"] += prediction.status == "failed"
            counts["calls"] += prediction.usage.calls
        for name in ("image named", "evidence in the crops", "right"):
            low, high = wilson(counts[name], len(samples))
            print(f"{way:9} {name:22} {counts[name] / len(samples):6.1%} ({low:.1%}–{high:.1%})")
        calls = counts["calls"] / len(samples)
        print(f"{way:9} {calls:.2f} calls a question, {counts['failed']} failed", flush=True)


if __name__ == "__main__":
    main()
