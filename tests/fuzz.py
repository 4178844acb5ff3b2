"""A fast, seeded fuzzer of the parser, the answer reader and the scorer.

    python tests/fuzz.py --n 500000 --seed 0

Half of the texts are perceiver's, half reasoner's: assembled from hostile pieces, or valid texts mutated.
Every box is passed to the geometry of its crop. Prints a summary; a violated guarantee stops it with the
text.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
from collections import Counter
from itertools import combinations

from p2r.evidence import MIN_REGION_PX, crop_region, plan_sizes
from p2r.parsing.answers import read_answer
from p2r.parsing.perception import MAX_BOXES, SAME_IOU, parse_perception
from p2r.scoring import score
from p2r.settings import Geometry, PixelBudget
from p2r.text import encodable
from p2r.types import BOX_FORMATS, Answer, Question, Sample
from tests.strategies import ANSWERS, HOSTILE_NUMBERS, KEYS, LABELS, PROSE

SIZES = [(3840, 2160), (7680, 4320), (640, 480), (33, 33), (1, 1), (5, 3000), (20_000, 40), (31_622, 31_622)]
GEOMETRIES = [Geometry(), Geometry(context_fraction=0.0), Geometry(context_max_px=0)]
QUESTIONS = [
    Question("x.png", "which?", ("red", "blue", "dark red", "green")),
    Question("x.png", "which?", ("3", "13", "3.5", "-3")),
    Question("x.png", "which?", ("B", "A", "K", "I", "(", "?", "a red car", "B.")),
    Question("x.png", "which?", ("yes", "no")),
    Question("x.png", "how many?", answer_type="number"),
    Question("x.png", "what?"),
]
GOLD = {
    "choice": ["A", "B"],
    "number": ["12", "1/2", "50%", "\\frac{1}{2}"],
    "free": ["K7", "12", "a red car"],
}

VALID_PERCEPTIONS = [
    "[]",
    "```json\n[]\n```",
    '[{"bbox_2d": [412, 318, 446, 371], "label": "street sign"}]',
    '```json\n[{"bbox_2d": [10, 20, 30, 40], "label": "a"}, {"bbox_2d": [50, 60, 70, 80], "label": ""}]\n```',
    '<think>Left.</think>[{"bbox_2d": [1, 2, 33, 44], "label": "x"}]',
    '{"bboxes": [[0.1, 0.2, 0.3, 0.4]]}',
    "[[10, 20, 30, 40], [50, 60, 70, 80]]",
    '{"bbox_2d": "100, 200, 300, 400", "label": "it"}',
    '[{"x1": 1, "y1": 2, "x2": 300, "y2": 400}]',
    "[{'bbox': (900, 900, 1200, 1300), 'label': 'edge'}]",
    "[[[[[[1, 2, 3, 4]]]]]]",
    "<|object_ref_start|>bus<|object_ref_end|><|box_start|>(176,106),(232,160)<|box_end|>",
    "<ref>bus</ref><box>12 20 30 400</box><box>[[1, 2, 30, 40]]</box>",
    "<|ref|>bus<|/ref|><|det|>[[220, 416, 417, 720], [1, 2, 30, 40]]<|/det|>",
    "<|box_start|><12><412><568><999><|box_end|> <loc0123><loc0001> <point x='1' y='2'>",
    "bus(176,106),(232,160)\nsign(1,2),(30,40)",
    "x1=100, y1=200, x2=300, y2=400; bbox: 1, 2, 30, 40",
    '{"top_left": [1, 2], "bottom_right": {"x": 3, "y": 4}, "names": ["a", "b"]}',
    '{"bboxes": [[1, 2, 30, 40], [5, 6, 70, 80]], "labels": ["a", "b"]}',
]
VALID_ANSWERS = [
    "<think>It is red.</think><answer>B</answer>",
    "<think>3 + 9 = 12</think>\n<answer>12</answer>",
    "thinking</think><answer>(b)</answer>",
    "The answer is B.",
    "<answer>dark red</answer>",
    "<answer>1,234 apples</answer>",
    "<answer>\\boxed{\\frac{1}{2}}</answer>",
    "<think><answer>A</answer></think><answer>C) dark red</answer>",
]
_TOKENS = [
    "[",
    "]",
    "{",
    "}",
    "(",
    ")",
    ",",
    ":",
    '"',
    "'",
    "\\",
    '\\"',
    "<",
    ">",
    " ",
    "\n",
    "-",
    ".",
    "e",
    "$",
    "|",
    "=",
    "<box>",
    "</box>",
    "<ref>",
    "<|box_start|>",
    "<|box_end|>",
    "(1,2)",
]


def perceiver_text(rng: random.Random) -> str:
    """A hostile perceiver text."""
    kind = rng.random()
    if kind < 0.5:
        return mutate(rng, rng.choice(VALID_PERCEPTIONS), VALID_PERCEPTIONS)
    if kind < 0.9:
        return "".join(_perceiver_piece(rng) for _ in range(rng.randint(1, 6)))
    return "".join(rng.choice(_TOKENS) for _ in range(rng.randint(0, 80))) * rng.choice([1, 1, 1, 30])


def reasoner_text(rng: random.Random) -> str:
    """A hostile reasoner text."""
    if rng.random() < 0.5:
        return mutate(rng, rng.choice(VALID_ANSWERS), VALID_ANSWERS)
    pieces = [*("<think>", "</think>", "<answer>", "</answer>") * 4, *ANSWERS, *PROSE]
    text = "".join(rng.choice(pieces) for _ in range(rng.randint(1, 8)))
    return f"<answer>{text}</answer>" if rng.random() < 0.5 else text


def _perceiver_piece(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.25:
        return rng.choice(PROSE)
    row = ", ".join(_number(rng) for _ in range(rng.choice([4, 4, 4, 4, 2, 3, 5])))
    row = rng.choice(["[{}]", "[{}]", "[{}]", "({})", "[{}", '"{}"', "[[{}]]", "{}", "<box>{}</box>"]).format(
        row
    )
    if kind < 0.5:
        return f"[{row}, {row}]"
    end = rng.choice(["}]", "},", "}", "}, null]", ""])
    return f'[{{"{rng.choice(KEYS)}": {row}, "label": {rng.choice(LABELS)}{end}'


def _number(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.6:
        return str(rng.randint(-100, 1_200))
    if kind < 0.8:
        return str(round(rng.random(), rng.randint(0, 17)))
    return rng.choice(HOSTILE_NUMBERS)


def mutate(rng: random.Random, text: str, others: list[str]) -> str:
    """One to four changes of a valid text."""
    for _ in range(rng.randint(1, 4)):
        start = rng.randint(0, len(text))
        end = min(len(text), start + rng.randint(0, 12))
        match rng.randrange(8):
            case 0:
                text = text[:start]
            case 1:
                text = text[:start] + text[end:]
            case 2:
                text = text[:end] + text[start:]
            case 3:
                text = text[:start] + rng.choice(_TOKENS) + text[start:]
            case 4:
                text = text[:start] + rng.choice(HOSTILE_NUMBERS + PROSE) + text[end:]
            case 5:
                text = (
                    text[:start]
                    + chr(rng.choice([rng.randrange(128), rng.randrange(0x11_0000)]))
                    + text[start:]
                )
            case 6:
                text = text[:start] + rng.choice(others) + text[start:]
            case 7:
                text = rng.choice(PROSE) + text
    return text


def check_perception(text: str, rng: random.Random) -> str:
    """Parse, and take each box as far as its crop; returns the outcome.

    Raises:
        AssertionError: a promise of the parser or of the geometry is broken.
    """
    size = rng.choice(SIZES)
    read = parse_perception(text, rng.choice(BOX_FORMATS), size)
    assert read.text == encodable(text)
    assert (read.outcome == "boxes") == bool(read.boxes)
    assert read.outcome in ("boxes", "whole", "malformed")
    assert read.warnings or read.outcome != "malformed"
    assert len(read.boxes) <= MAX_BOXES
    assert len(read.repeats) <= MAX_BOXES
    assert all(one.iou(other) < SAME_IOU for one, other in combinations(read.boxes, 2))
    assert all(any(box.iou(other) >= SAME_IOU for other in read.boxes) for box in read.repeats)
    assert not read.format_warning or read.format_warning in read.warnings
    width, height = size
    geometry = rng.choice(GEOMETRIES)
    regions = []
    for box in read.boxes:
        assert 0 <= box.x0 < box.x1 <= 1000
        assert 0 <= box.y0 < box.y1 <= 1000
        assert box.label == box.label.encode("utf-8").decode("utf-8").strip()
        x0, y0, x1, y1 = region = crop_region(box, size, geometry)
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        assert x1 - x0 >= min(width, MIN_REGION_PX)
        assert y1 - y0 >= min(height, MIN_REGION_PX)
        regions.append(region)
    if regions:
        budget = PixelBudget()
        plan = plan_sizes(size, regions[: geometry.max_crops], budget)
        assert all(w * h >= budget.min_pixels for w, h in plan.crops)
    json.dumps([(box.as_tuple(), box.label) for box in read.boxes], allow_nan=False)
    "".join(read.warnings).encode()
    return read.outcome


async def check_answer(text: str, rng: random.Random) -> str:
    """Read the answer to a question of each kind, and score it; returns what came of it.

    Raises:
        AssertionError: a promise of the reader or of the scorer is broken.
    """
    question = rng.choice(QUESTIONS)
    answer = read_answer(text, question, bare=rng.random() < 0.5)
    assert (answer.value is None) == bool(answer.reason)
    if question.choices and answer.value is not None:
        assert len(answer.value) == 1
        assert answer.value in question.letters
    sample = Sample(question, rng.choice(GOLD[question.answer_type]))
    scored = await score(Answer(answer.value), sample)
    assert scored.correct is not None  # every gold answer above is readable, and no judge is asked
    assert not (answer.value is None and scored.correct)
    return "right" if scored.correct else "no answer" if answer.value is None else "wrong"


async def fuzz(count: int, seed: int, *, progress: bool = False) -> Counter[str]:
    """Check `count` texts; half of them perceiver's, half reasoner's."""
    seen: Counter[str] = Counter()
    slowest, slow_text = 0.0, ""
    start = time.monotonic()
    for index in range(count):
        rng = random.Random(f"{seed}-{index}")
        before = time.process_time()
        text = perceiver_text(rng) if index % 2 == 0 else reasoner_text(rng)
        try:
            if index % 2 == 0:
                seen[f"perceiver: {check_perception(text, rng)}"] += 1
            else:
                seen[f"reasoner: {await check_answer(text, rng)}"] += 1
        except Exception as error:
            raise AssertionError(f"text {index} of seed {seed}: {text[:500]!r}") from error
        slowest, slow_text = max((slowest, slow_text), (time.process_time() - before, text))
        if progress and index % 1_000 == 999:
            rate = (index + 1) / (time.monotonic() - start)
            print(f"\r{index + 1} of {count}, {rate:.0f} a second", end="", file=sys.stderr, flush=True)
    if progress:
        print(f"\n{count} texts in {time.monotonic() - start:.0f} s")
        print(f"slowest: {slowest * 1000:.0f} ms of processor time, {slow_text[:200]!r}")
    return seen


def main() -> None:
    """Run the fuzzer from the command line."""
    parser = argparse.ArgumentParser(description="Fuzz the parser, the answer reader and the scorer.")
    parser.add_argument("--n", type=int, default=500_000, help="how many texts")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for what, count in sorted(asyncio.run(fuzz(arguments.n, arguments.seed, progress=True)).items()):
        print(f"{what:24}{count:9}")


if __name__ == "__main__":
    main()
