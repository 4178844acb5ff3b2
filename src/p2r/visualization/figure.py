"""The figure of a prediction for people: image with numbered boxes, crops in their colors, answer.

It is drawn from the original at a size for people; what the models saw is smaller (docs/images.md).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import PIL.ExifTags
import PIL.Image
import PIL.ImageOps

from p2r.errors import InputError
from p2r.images import open_images
from p2r.runs.files import check_output, replacing
from p2r.visualization.annotate import FRAME, HEAD, annotated, fitted, framed, inscribed
from p2r.visualization.text import RGB, Lettering, clean, rounded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from p2r.images import ImageSource
    from p2r.types import Box, Evidence, Prediction, Question

# Suffix → how Pillow writes it. Text must stay sharp: JPEG without chroma subsampling.
FORMATS: dict[str, dict[str, Any]] = {
    ".png": {},
    ".jpg": {"quality": 92, "subsampling": 0},
    ".jpeg": {"quality": 92, "subsampling": 0},
    ".webp": {"quality": 92},
}
# Written into every figure, so that a figure can be replaced by a newer one, and no other file is.
MADE_BY = "perceive-to-reason"

WIDTH = 1600
MARGIN = 56
GAP = 28
INNER = WIDTH - 2 * MARGIN
MAX_HEIGHT = 1000  # of the overview and the crops
MIN_CROP = 40  # the least side of the room for a crop
MIN_SHOWN = 400 * 300  # pixels to which a small crop is enlarged, if there is room
IN_ROW, ROW_HEIGHT, MOST_IMAGES = 4, 520, 12  # of a question about several images
CHIP = 44
PANEL = 28

PAPER: RGB = (255, 255, 255)
INK: RGB = (31, 35, 40)
GRAY: RGB = (107, 114, 128)
PALE: RGB = (244, 245, 247)
GREEN: tuple[RGB, RGB] = ((228, 243, 232), (22, 101, 52))  # background and ink of what is right
RED: tuple[RGB, RGB] = ((252, 235, 234), (153, 27, 27))


def figure(
    prediction: Prediction, question: Question, path: Path | None = None, gold: str | None = None
) -> PIL.Image.Image:
    """Draw a prediction, RGB, 1600 pixels wide, and write it if a path is given.

    Args:
        prediction, question: what is drawn.
        path: of the file, whose suffix is its format: `.png`, `.jpg` or `.webp`.
        gold: the right answer, a letter for a choice question; shown beside the answer.

    Raises:
        InputError: an image cannot be read, a box is of another one, or the path cannot be written (see
            `check_path`).
    """
    if path is not None:
        check_path(path)
    texts = [question.text, *question.choices, prediction.thinking, prediction.answer or "", gold or ""]
    letters = Lettering([*texts, *(box.label for box in prediction.boxes)])
    parts = [
        _heading(letters, question, prediction, gold),
        images(letters, prediction, question),
        _verdict(letters, question, prediction, gold),
        _footer(letters, prediction),
    ]
    image = PIL.ImageOps.expand(_stacked(parts), MARGIN, PAPER)
    if path is not None:
        exif = PIL.Image.Exif()
        exif[PIL.ExifTags.Base.Software] = MADE_BY
        try:
            with replacing(path) as partial:
                image.save(partial, exif=exif, **FORMATS[path.suffix.lower()])
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    return image


def check_path(path: Path) -> None:
    """Raise `InputError` if a figure cannot be written to a path.

    That is an unknown format, no folder, no permission, or a file that is not a figure.
    """
    if path.suffix.lower() not in FORMATS and not path.is_dir():
        example = path.with_suffix(".png")
        raise InputError(f"{path}: a figure is written as {', '.join(FORMATS)}; for example {example}")
    check_output(path, "figure", "figure.png", _is_figure)


def _is_figure(path: Path) -> bool:
    try:
        with PIL.Image.open(path) as image:
            return bool(image.getexif().get(PIL.ExifTags.Base.Software) == MADE_BY)
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        return False


def _paper(width: int, height: int) -> PIL.Image.Image:
    return PIL.Image.new("RGB", (width, height), PAPER)


def _stacked(parts: Sequence[PIL.Image.Image], *, beside: bool = False) -> PIL.Image.Image:
    # One below the other, or side by side.
    widths, heights = [part.width for part in parts], [part.height for part in parts]
    gaps = GAP * (len(parts) - 1)
    stack = _paper(sum(widths) + gaps, max(heights)) if beside else _paper(max(widths), sum(heights) + gaps)
    x, y = 0, 0
    for part in parts:
        stack.paste(part, (x, y))
        x, y = (x + part.width + GAP, 0) if beside else (0, y + part.height + GAP)
    return stack


# --- question and options --------------------------------------------------------------------------------


def _heading(
    letters: Lettering, question: Question, prediction: Prediction, gold: str | None
) -> PIL.Image.Image:
    size, line = 34, 46
    lines = letters.lines(question.text, size, INNER, most=5)
    chips: list[tuple[str, str, int, int, int]] = []  # letter, text, left, top, width
    left, top = 0, len(lines) * line + 20
    for letter, choice in zip(question.letters, question.choices, strict=True):
        (text,) = letters.lines(choice, 22, INNER - 70, most=1)
        width = 64 + letters.width(text, 22)
        if left and left + width > INNER:
            left, top = 0, top + CHIP + 12
        chips.append((letter, text, left, top, width))
        left += width + 12
    image = _paper(INNER, top + CHIP if chips else len(lines) * line)
    for index, text in enumerate(lines):
        letters.write(image, (0, index * line + line // 2), text, size, INK, bold=True)
    for letter, text, left, top, width in chips:
        fill, ink = _chip_colors(letter, prediction.answer, gold)
        rounded(image, (left, top, left + width, top + CHIP), 12, fill)
        letters.write(image, (left + 18, top + CHIP // 2), letter, 22, ink, bold=True)
        letters.write(image, (left + 46, top + CHIP // 2), text, 22, ink)
    return image


def _chip_colors(letter: str, answer: str | None, gold: str | None) -> tuple[RGB, RGB]:
    if letter == gold:
        return GREEN
    if letter == answer:
        return (INK, PAPER) if gold is None else RED
    return PALE, INK


# --- images ----------------------------------------------------------------------------------------------


class _Layout(NamedTuple):
    score: float  # larger is better
    overview: tuple[int, int]
    crops: list[tuple[int, int]]  # without their frames
    columns: int
    beside: bool  # the crops are beside the overview, not below it


def images(letters: Lettering, prediction: Prediction, question: Question) -> PIL.Image.Image:
    """The images of a question with the boxes, and the crops; the errors are those of `figure`."""
    boxes, regions = prediction.boxes, prediction.crops_px
    source, *others = open_images(question.images)
    if (last := max((box.image for box in boxes), default=0)) > len(others):
        raise InputError(f"a box is of image {last + 1}, and the question has {1 + len(others)}")
    if others:
        return _several(letters, [source, *others], prediction)
    if not regions:
        size = fitted(source.size, (INNER, MAX_HEIGHT))
        return annotated(letters, source, boxes, size, regions=_closer(prediction))
    sizes = [(x1 - x0, y1 - y0) for x0, y0, x1, y1 in regions]
    layout = max(_layouts(source.size, sizes), key=lambda layout: layout.score)
    crops = []
    for index, (region, size) in enumerate(zip(regions, layout.crops, strict=True)):
        label = boxes[index].label if index < len(boxes) else ""
        title = f"{index + 1} {clean(label)}".strip()
        crops.append(framed(letters, source, region, title, index, size))
    step = layout.columns
    rows = [_stacked(crops[at : at + step], beside=True) for at in range(0, len(crops), step)]
    overview = annotated(letters, source, boxes, layout.overview, regions=_closer(prediction))
    return _stacked([overview, _stacked(rows)], beside=layout.beside)


def _several(letters: Lettering, sources: Sequence[ImageSource], prediction: Prediction) -> PIL.Image.Image:
    # The images with boxes, or else the first ones, side by side with their numbers, and all crops below.
    boxes, regions = prediction.boxes, prediction.crops_px
    shown = sorted({box.image for box in boxes}) or list(range(len(sources)))
    rows: list[list[PIL.Image.Image]] = []
    for at in range(0, len(shown[:MOST_IMAGES]), IN_ROW):
        row = [(index, sources[index]) for index in shown[at : at + IN_ROW]]
        room = ((INNER + GAP) // len(row) - GAP, ROW_HEIGHT)
        rows.append([])
        for index, source in row:
            size = fitted(source.size, room)
            drawn = annotated(letters, source, boxes, size, index, _closer(prediction, index))
            rows[-1].append(
                _stacked([_line(letters, f"image {index + 1} of {len(sources)}", room[0]), drawn])
            )
    for at in range(0, len(regions), IN_ROW):
        row_of = regions[at : at + IN_ROW]
        room = ((INNER + GAP) // len(row_of) - GAP - 2 * FRAME, ROW_HEIGHT)
        rows.append([])
        for index, region in enumerate(row_of, start=at):
            box = boxes[index]
            title = f"{index + 1} {clean(box.label)} · image {box.image + 1}"
            size = inscribed((region[2] - region[0], region[3] - region[1]), room)
            rows[-1].append(framed(letters, sources[box.image], region, title, index, size))
    return _stacked([_stacked(row, beside=True) for row in rows])


def _closer(prediction: Prediction, image: int = 0) -> list[Box]:
    # The regions that the perceiver was shown after the whole image.
    return [look.region for look in prediction.looks if look.parent is not None and look.image == image]


def _line(letters: Lettering, text: str, width: int) -> PIL.Image.Image:
    image = _paper(width, 24)
    (line,) = letters.lines(text, 19, width, most=1)
    letters.write(image, (0, 12), line, 19, GRAY)
    return image


def _layouts(size: tuple[int, int], regions: Sequence[tuple[int, int]]) -> Iterator[_Layout]:
    # All ways to put the crops beside or below an overview of some height. Better is what shows everything
    # larger, the overview above all, and the crops up to their own size.
    wanted = [max(MIN_SHOWN, width * height) for width, height in regions]
    for height in range(120, MAX_HEIGHT + 1, 20):
        overview = fitted(size, (INNER, height))
        room_beside = (INNER - overview[0] - GAP, overview[1])
        room_below = (INNER, MAX_HEIGHT - overview[1] - GAP)
        for beside, room in ((True, room_beside), (False, room_below)):
            for columns in range(1, len(regions) + 1):
                rows = -(-len(regions) // columns)
                across = (room[0] - GAP * (columns - 1)) // columns - 2 * FRAME
                down = (room[1] - GAP * (rows - 1)) // rows - FRAME - HEAD
                if min(across, down) < MIN_CROP:
                    continue
                crops = [inscribed(region, (across, down)) for region in regions]
                areas = [min(most, crop[0] * crop[1]) for most, crop in zip(wanted, crops, strict=True)]
                score = 2 * math.log(overview[0] * overview[1]) + sum(map(math.log, areas)) / len(areas)
                yield _Layout(score, overview, crops, columns, beside)


# --- answer, thinking, cost ------------------------------------------------------------------------------


def _verdict(
    letters: Lettering, question: Question, prediction: Prediction, gold: str | None
) -> PIL.Image.Image:
    width = round(INNER * 0.36) if prediction.thinking else INNER
    room = width - 2 * PANEL
    title, text, right = _answer(question, prediction, gold)
    fill, ink = {None: (PALE, INK), True: GREEN, False: RED}[right]
    lines = letters.lines(text, 36, room, most=3)
    expected = "" if right is not False or gold is None else f"expected: {named(question, gold)}"
    notes = letters.lines(expected, 20, room, most=2)
    thinking = letters.lines(prediction.thinking, 22, INNER - width - 2 * GAP, most=6)
    height = max(28 + 48 * len(lines) + 30 * len(notes), 34 + 34 * len(thinking) if thinking else 0)
    image = _paper(INNER, height + 2 * PANEL)
    rounded(image, (0, 0, width, image.height), 16, fill)
    letters.write(image, (PANEL, PANEL + 8), title, 19, ink)
    for index, line in enumerate(lines):
        letters.write(image, (PANEL, PANEL + 52 + 48 * index), line, 36, ink, bold=True)
    for index, line in enumerate(notes):
        letters.write(image, (PANEL, PANEL + 44 + 48 * len(lines) + 30 * index), line, 20, ink)
    if thinking:
        left = width + 2 * GAP
        letters.write(image, (left, PANEL + 8), "thinking", 19, GRAY)
        for index, line in enumerate(thinking):
            letters.write(image, (left, PANEL + 48 + 34 * index), line, 22, INK)
    return image


def _answer(question: Question, prediction: Prediction, gold: str | None) -> tuple[str, str, bool | None]:
    # A title, the answer, and whether it is right as far as that can be seen without a judge.
    if prediction.status == "failed":
        return "no answer: the model call failed", prediction.error or "failed", None
    answer = prediction.answer
    if answer is None:
        reason = "it ran into its token limit" if prediction.truncated else "the reply names none"
        return "answer", f"none ({reason})", None if gold is None else False
    same = gold is not None and clean(answer).casefold() == clean(gold).casefold()
    return "answer", named(question, answer), None if gold is None else same


def named(question: Question, answer: str) -> str:
    """An answer, with the text of its option if it is a letter."""
    return question.option(answer) if len(answer) == 1 and answer in question.letters else answer


def _footer(letters: Lettering, prediction: Prediction) -> PIL.Image.Image:
    seconds = dict(prediction.seconds)
    total = seconds.pop("total", sum(seconds.values()))
    models = prediction.model
    if prediction.reasoner and prediction.reasoner != prediction.model:
        models += f" + {prediction.reasoner}"
    stages = ", ".join(f"{stage} {took:.2f}" for stage, took in seconds.items())
    looks = f"{len(prediction.looks)} looks: {prediction.stopped}" if prediction.looks else ""
    parts = [models, prediction.mode, f"{total:.2f} s", stages, looks]
    return _line(letters, " · ".join(part for part in parts if part), INNER)


# --- evidence --------------------------------------------------------------------------------------------


def evidence_figure(evidence: Evidence) -> PIL.Image.Image:
    """Draw what the reasoner is shown, RGB: overviews, then crops, two in a row, each below its name."""
    pairs = zip(evidence.shown, evidence.overviews, strict=True)
    titled = [(f"image {index + 1}", image) for index, image in pairs]
    for number, crop in enumerate(evidence.crops, 1):
        titled.append((f"crop {number}, {crop.color} {clean(crop.box.label)}", crop.image))
    letters = Lettering(name for name, _ in titled)
    room = ((INNER - GAP) // 2, ROW_HEIGHT)
    tiles = [
        _stacked([_line(letters, name, room[0]), image.to_pil().resize(inscribed(image.size, room))])
        for name, image in titled
    ]
    return _stacked([_stacked(tiles[at : at + 2], beside=True) for at in range(0, len(tiles), 2)])
