"""The figure that people look at: the image with numbered boxes, the crops in the same colors, the answer.

It is drawn from the original at a size for people; what the models saw is smaller (docs/images.md).
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import PIL.ExifTags
import PIL.Image

from p2r.errors import InputError
from p2r.runs.files import replacing
from p2r.visualization.annotate import FRAME, HEAD, annotated, fitted, framed, inscribed
from p2r.visualization.text import RGB, Lettering, clean, rounded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from p2r.images import ImageSource
    from p2r.types import Prediction, Question

# Suffix → how Pillow writes it. Text must stay sharp: JPEG without chroma subsampling.
FORMATS: dict[str, dict[str, Any]] = {
    ".png": {},
    ".jpg": {"quality": 92, "subsampling": 0},
    ".jpeg": {"quality": 92, "subsampling": 0},
    ".webp": {"quality": 92},
}
# Written into every figure, so that a figure may be replaced by a newer one, and no other file ever is.
MADE_BY = "perceive-to-reason"

WIDTH = 1600
MARGIN = 56
GAP = 28
INNER = WIDTH - 2 * MARGIN
MAX_HEIGHT = 1000  # of the overview and the crops
MIN_CROP = 40  # the least side of a crop's place
MIN_SHOWN = 400 * 300  # pixels to which a small crop is enlarged, where there is room
CHIP = 44
PANEL = 28

PAPER: RGB = (255, 255, 255)
INK: RGB = (31, 35, 40)
GRAY: RGB = (107, 114, 128)
PALE: RGB = (244, 245, 247)
GREEN: tuple[RGB, RGB] = ((228, 243, 232), (22, 101, 52))  # background and ink of what is right
RED: tuple[RGB, RGB] = ((252, 235, 234), (153, 27, 27))


@dataclass(frozen=True, slots=True)
class _Block:
    """A part of the figure: how large it is, and what draws it with its top left corner at a place."""

    width: int
    height: int
    draw: Callable[[PIL.Image.Image, int, int], None]


def figure(
    source: ImageSource,
    prediction: Prediction,
    question: Question,
    path: Path | None = None,
    gold: str | None = None,
) -> PIL.Image.Image:
    """Draw a prediction; write it in the format of the path's suffix if a path is given.

    Args:
        source: the image that was asked about.
        prediction: what was seen, thought and answered.
        question: what was asked.
        path: where the file goes: `.png`, `.jpg` or `.webp`.
        gold: the right answer, a letter for a choice question; shown beside the answer.

    Returns:
        The figure, RGB, 1600 pixels wide.

    Raises:
        InputError: the image is damaged, or the path cannot be written (see `check_path`).
    """
    if path is not None:
        check_path(path)
    labels = [box.label for box in prediction.boxes]
    texts = [
        question.text,
        *question.choices,
        prediction.thinking,
        prediction.answer or "",
        gold or "",
        *labels,
    ]
    letters = Lettering(texts)
    blocks = [
        _heading(letters, question, prediction, gold),
        _images(letters, source, prediction),
        _verdict(letters, question, prediction, gold),
        _footer(letters, prediction),
    ]
    stack = _column(blocks)
    image = PIL.Image.new("RGB", (WIDTH, stack.height + 2 * MARGIN), PAPER)
    stack.draw(image, MARGIN, MARGIN)
    if path is not None:
        exif = PIL.Image.Exif()
        exif[PIL.ExifTags.Base.Software] = MADE_BY
        try:
            with replacing(path) as partial:  # of a link the link, not what it leads to
                image.save(partial, exif=exif, **FORMATS[path.suffix.lower()])
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}") from error
    return image


def check_path(path: Path) -> None:
    """Refuse a path that a figure cannot be written to, before anything is done for it.

    Raises:
        InputError: an unknown format, no folder, no permission, or a file that is not a figure.
    """
    known = ", ".join(FORMATS)
    if path.is_dir():
        raise InputError(f"{path}: a folder; give a file name, such as {path / 'figure.png'}")
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"{path}: a figure is written as {known}; for example {path.with_suffix('.png')}")
    folder = path.parent
    if not folder.is_dir():
        raise InputError(f"{path}: there is no folder {folder}; make it first")
    if not os.access(path if path.exists() else folder, os.W_OK):
        raise InputError(f"{path}: no permission to write there")
    if path.is_file() and not _is_replaceable(path):
        raise InputError(f"{path}: it is there already and is not a figure of ours; give another name")


def _is_replaceable(path: Path) -> bool:
    try:
        if path.stat().st_size == 0:
            return True
        with PIL.Image.open(path) as image:
            return bool(image.getexif().get(PIL.ExifTags.Base.Software) == MADE_BY)
    except (OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError):
        return False


def _column(blocks: list[_Block]) -> _Block:
    def draw(image: PIL.Image.Image, x: int, y: int) -> None:
        for block in blocks:
            block.draw(image, x, y)
            y += block.height + GAP

    height = sum(block.height for block in blocks) + GAP * (len(blocks) - 1)
    return _Block(max(block.width for block in blocks), height, draw)


def _row(blocks: list[_Block]) -> _Block:
    def draw(image: PIL.Image.Image, x: int, y: int) -> None:
        for block in blocks:
            block.draw(image, x, y)
            x += block.width + GAP

    width = sum(block.width for block in blocks) + GAP * (len(blocks) - 1)
    return _Block(width, max(block.height for block in blocks), draw)


# --- question and options --------------------------------------------------------------------------------


def _heading(letters: Lettering, question: Question, prediction: Prediction, gold: str | None) -> _Block:
    size, line = 34, 46
    lines = letters.lines(question.text, size, INNER, most=5)
    chips: list[tuple[str, int, int, int]] = []  # text, left, down, width
    left, down = 0, len(lines) * line + 20
    for choice in question.choices:
        (text,) = letters.lines(choice, 22, INNER - 70, most=1)
        width = 64 + letters.width(text, 22)
        if left and left + width > INNER:
            left, down = 0, down + CHIP + 12
        chips.append((text, left, down, width))
        left += width + 12

    def draw(image: PIL.Image.Image, x: int, y: int) -> None:
        for index, text in enumerate(lines):
            letters.write(image, (x, y + index * line + line // 2), text, size, INK, bold=True)
        for letter, (text, left, down, width) in zip(question.letters, chips, strict=True):
            fill, ink = _chip_colors(letter, prediction.answer, gold)
            rounded(image, (x + left, y + down, x + left + width, y + down + CHIP), 12, fill)
            letters.write(image, (x + left + 18, y + down + CHIP // 2), letter, 22, ink, bold=True)
            letters.write(image, (x + left + 46, y + down + CHIP // 2), text, 22, ink)

    return _Block(INNER, down + CHIP if chips else len(lines) * line, draw)


def _chip_colors(letter: str, answer: str | None, gold: str | None) -> tuple[RGB, RGB]:
    if letter == gold:
        return GREEN
    if letter == answer:
        return (INK, PAPER) if gold is None else RED
    return PALE, INK


# --- images ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Layout:
    """Sizes of the overview and of the crops (without their frames), and how the crops stand."""

    overview: tuple[int, int]
    crops: list[tuple[int, int]]
    columns: int
    beside: bool  # the overview, or below it

    score: float  # larger is better


def _images(letters: Lettering, source: ImageSource, prediction: Prediction) -> _Block:
    regions = prediction.crops_px
    if not regions:
        size = fitted(source.size, (INNER, MAX_HEIGHT))
        return _image(annotated(letters, source, prediction.boxes, size))
    layout = _layout(source.size, [(x1 - x0, y1 - y0) for x0, y0, x1, y1 in regions])
    overview = _image(annotated(letters, source, prediction.boxes, layout.overview))
    crops = [
        _image(framed(letters, source, region, _title(prediction, index), index, size))
        for index, (region, size) in enumerate(zip(regions, layout.crops, strict=True))
    ]
    step = layout.columns
    grid = _column([_row(crops[at : at + step]) for at in range(0, len(crops), step)])
    return _row([overview, grid]) if layout.beside else _column([overview, grid])


def _title(prediction: Prediction, index: int) -> str:
    label = prediction.boxes[index].label if index < len(prediction.boxes) else ""
    return f"{index + 1} {clean(label)}".strip()


def _layout(size: tuple[int, int], regions: Sequence[tuple[int, int]]) -> _Layout:
    # All ways to set the crops beside or below an overview of some height are tried. Better is what shows
    # everything larger, the overview above all, and the crops up to their own size.
    wanted = [max(MIN_SHOWN, width * height) for width, height in regions]
    found: list[_Layout] = []
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
                score = 2 * math.log(overview[0] * overview[1])
                score += sum(map(math.log, areas)) / len(areas)
                found.append(_Layout(overview, crops, columns, beside, score))
    return max(found, key=lambda layout: layout.score)


def _image(drawn: PIL.Image.Image) -> _Block:
    def draw(image: PIL.Image.Image, x: int, y: int) -> None:
        image.paste(drawn, (x, y))

    return _Block(*drawn.size, draw)


# --- answer, thinking, cost ------------------------------------------------------------------------------


def _verdict(letters: Lettering, question: Question, prediction: Prediction, gold: str | None) -> _Block:
    width = round(INNER * 0.36) if prediction.thinking else INNER
    room = width - 2 * PANEL
    title, text, right = _answer(question, prediction, gold)
    fill, ink = {None: (PALE, INK), True: GREEN, False: RED}[right]
    lines = letters.lines(text, 36, room, most=3)
    expected = "" if right is not False or gold is None else f"expected: {_named(question, gold)}"
    notes = letters.lines(expected, 20, room, most=2)
    thinking = letters.lines(prediction.thinking, 22, INNER - width - 2 * GAP, most=6)
    height = 2 * PANEL + max(
        28 + 48 * len(lines) + 30 * len(notes), 34 + 34 * len(thinking) if thinking else 0
    )

    def draw(image: PIL.Image.Image, x: int, y: int) -> None:
        rounded(image, (x, y, x + width, y + height), 16, fill)
        left, top = x + PANEL, y + PANEL
        letters.write(image, (left, top + 8), title, 19, ink)
        for index, line in enumerate(lines):
            letters.write(image, (left, top + 52 + 48 * index), line, 36, ink, bold=True)
        for index, line in enumerate(notes):
            letters.write(image, (left, top + 44 + 48 * len(lines) + 30 * index), line, 20, ink)
        if thinking:
            left = x + width + 2 * GAP
            letters.write(image, (left, top + 8), "thinking", 19, GRAY)
            for index, line in enumerate(thinking):
                letters.write(image, (left, top + 48 + 34 * index), line, 22, INK)

    return _Block(INNER, height, draw)


def _answer(question: Question, prediction: Prediction, gold: str | None) -> tuple[str, str, bool | None]:
    # A title, the answer, and whether it is right as far as that can be seen without a judge.
    if prediction.status == "failed":
        return "no answer: the model call failed", prediction.error or "failed", None
    answer = prediction.answer
    if answer is None:
        reason = "it ran into its token limit" if prediction.truncated else "the reply names none"
        return "answer", f"none ({reason})", None if gold is None else False
    same = gold is not None and clean(answer).casefold() == clean(gold).casefold()
    return "answer", _named(question, answer), None if gold is None else same


def _named(question: Question, answer: str) -> str:
    return question.option(answer) if len(answer) == 1 and answer in question.letters else answer


def _footer(letters: Lettering, prediction: Prediction) -> _Block:
    seconds = dict(prediction.seconds)
    total = seconds.pop("total", sum(seconds.values()))
    models = prediction.model
    if prediction.reasoner and prediction.reasoner != prediction.model:
        models += f" + {prediction.reasoner}"
    stages = ", ".join(f"{stage} {took:.2f}" for stage, took in seconds.items())
    parts = [models, prediction.mode, f"{total:.2f} s", stages]
    lines = letters.lines(" · ".join(part for part in parts if part), 19, INNER, most=1)

    def draw(image: PIL.Image.Image, x: int, y: int) -> None:
        letters.write(image, (x, y + 12), lines[0], 19, GRAY)

    return _Block(INNER, 24, draw)
