"""Predictions and evidence in notebooks: what is shown, escaped and bounded, and what is kept in memory."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import re
import sys
import weakref
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import PIL.ImageShow
import pytest

from p2r.errors import InputError
from p2r.evaluation.asking import attempt
from p2r.evidence import build_evidences
from p2r.images import ImageSource
from p2r.pipeline import P2R
from p2r.settings import PixelBudget, Settings
from p2r.types import Answer, Box, Look, Prediction, Question
from p2r.visualization.annotate import shade
from p2r.visualization.notebook import MAX_SIDE
from tests.fake_model import FakeModel, said

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from p2r.models.base import Message

SMALL = Settings(
    budget=PixelBudget(overview_max_pixels=64 * 1024, crop_max_pixels=64 * 1024, min_pixels=1024)
)
HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)"> & $x$ </div></details>'
BOX = Box(400, 400, 500, 500, "red <b>tag</b>")


class Tags(HTMLParser):
    """The tags, attributes and texts of HTML; every tag must be closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text, self._open = "", list[str]()
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in ("img", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def gray(width: int = 640, height: int = 360) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def predicted(image: object = None, **changes: object) -> Prediction:
    known: dict[str, object] = {
        "boxes": (BOX,),
        "crops_px": ((240, 130, 340, 200),),
        "reply": Answer("B", "It says 5."),
        "question": None if image is None else Question(image, "Which digit?", ("4", "5")),  # type: ignore[arg-type]
    }
    return Prediction("q-17", "p2r", "answered", **{**known, **changes})  # type: ignore[arg-type]


def images_in(html: str) -> list[PIL.Image.Image]:
    data = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', html)
    return [PIL.Image.open(io.BytesIO(base64.b64decode(one, validate=True))) for one in data]


def has(image: PIL.Image.Image, color: tuple[int, int, int], within: int = 0) -> bool:
    pixels = np.asarray(image.convert("RGB")).astype(int)
    return bool((np.abs(pixels - color).max(axis=2) <= within).any())


# What is shown.


def test_a_prediction_is_shown_with_its_image_and_its_texts() -> None:
    html = predicted(gray())._repr_html_()
    (image,) = images_in(html)
    assert has(image, shade(0), within=12)
    shown = Tags(html)
    assert {"details", "summary"} <= shown.tags
    for text in ("Which digit?", "A. 4", "answered: B. 5", "It says 5."):
        assert text in shown.text
    assert has(predicted(gray()).figure(), shade(0))


@pytest.mark.parametrize(
    "changes",
    [
        {
            "status": "failed",
            "reply": Answer(None),
            "error": "http://host/v1: refused",
            "boxes": (),
            "crops_px": (),
        },
        {"status": "no_answer", "reply": Answer(None), "notes": ("the reply ran into its limit",)},
        {"mode": "direct", "boxes": (), "crops_px": (), "reply": Answer("Z")},
    ],
    ids=["failed", "no-answer", "unknown-letter"],
)
def test_every_outcome_is_shown(changes: dict[str, object]) -> None:
    prediction = replace(predicted(gray()), **changes)  # type: ignore[arg-type]
    html = prediction._repr_html_()
    assert len(images_in(html)) == 1
    text = Tags(html).text
    assert f"{prediction.status}: {prediction.answer or prediction.error or 'none'}" in text
    assert all(note in text for note in prediction.notes)


def test_several_images_and_looks_are_shown() -> None:
    boxes = (BOX, replace(BOX, image=1, label="second"))
    crops = ((240, 130, 340, 200), (0, 0, 50, 50))
    looks = (
        Look(Box(0, 0, 1000, 1000), None, "[]", "whole", image=1),
        Look(Box(0, 500, 500, 1000), 0, "[<i>]", "malformed", image=1),
    )
    prediction = predicted([gray(), gray(300, 300)], boxes=boxes, crops_px=crops, looks=looks)
    figure, plain = prediction.figure(), replace(prediction, looks=()).figure()
    assert has(figure, shade(0))
    assert has(figure, shade(1))
    assert figure.tobytes() != plain.tobytes(), "the region of the closer look is drawn"
    assert "image 2, (0, 500, 500, 1000): [<i>]" in Tags(prediction._repr_html_()).text


def evidence_of(boxes: Sequence[Box], count: int = 1) -> object:
    sources = [ImageSource.open(gray(640 + index, 360)) for index in range(count)]
    return build_evidences(sources, [boxes], SMALL)[0]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("boxes", [(), (BOX,), (BOX, replace(BOX, label=HOSTILE), BOX)], ids=len)
def test_evidence_is_shown(boxes: Sequence[Box], count: int) -> None:
    evidence = evidence_of(boxes, count)
    html = evidence._repr_html_()  # type: ignore[attr-defined]
    (image,) = images_in(html)
    Tags(html)
    assert has(image, (255, 0, 0), within=60) == bool(boxes), "the outline of the overview"
    assert evidence.figure().height < 2000  # type: ignore[attr-defined]


# Escaped, and bounded.


def test_no_text_becomes_a_tag() -> None:
    texts = replace(
        predicted(gray()),
        question=Question(gray(), HOSTILE, (HOSTILE, "5")),
        boxes=(replace(BOX, label=HOSTILE),),
        notes=(HOSTILE,),
        model=HOSTILE,
        status=HOSTILE,  # type: ignore[arg-type]  # as a file may say
        looks=(Look(BOX, None, HOSTILE, "malformed"),),
    )
    for reply in (Answer("A", HOSTILE), Answer(HOSTILE, HOSTILE), Answer(None)):
        for question in (texts.question, None):
            html = replace(texts, reply=reply, error=HOSTILE, question=question)._repr_html_()
            shown = Tags(html)
            assert shown.tags <= {"div", "img", "b", "br", "i", "span", "small", "details", "summary"}
            assert shown.attributes <= {"class", "style", "src", "alt"}
            assert HOSTILE in shown.text
            assert "mathjax_ignore" in html


def test_the_name_of_a_file_is_escaped_too(tmp_path: Path) -> None:
    missing = tmp_path / "<script>.jpg"
    shown = Tags(predicted(missing)._repr_html_())
    assert "script" not in shown.tags
    assert f"{missing}: no such file" in shown.text
    assert "answered: B. 5" in shown.text


@pytest.mark.parametrize("size", [(3000, 2000), (400, 4000), (20, 20)])
def test_an_image_is_bounded(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    html = predicted(noise, crops_px=((0, 0, 20, 20),))._repr_html_()
    (image,) = images_in(html)
    assert max(image.size) <= MAX_SIDE
    assert len(html) < 1_500_000


# Without an image.


def test_a_prediction_from_json_takes_its_image_as_an_argument() -> None:
    known = predicted(gray())
    read = Prediction.from_json(known.to_json())
    assert read.question is None
    with pytest.raises(InputError, match=r"does not keep its image: give it, as in figure\('street.jpg'\)"):
        read.figure()
    shown = Tags(read._repr_html_())
    assert "does not keep its image" in shown.text
    assert "It says 5." in shown.text
    assert read.figure(known.question, gold="B").tobytes() == known.figure(gold="B").tobytes()
    assert has(read.figure(gray()), shade(0))
    assert has(read.figure([gray(), gray()]), shade(0))
    # Another image of the same question, such as its original.
    assert known.figure(gray() + 100).tobytes() != known.figure().tobytes()


def test_the_image_of_another_question_is_refused() -> None:
    second = replace(predicted(gray()), boxes=(replace(BOX, image=1),))
    with pytest.raises(InputError, match="a box is of image 2, and the question has 1"):
        second.figure()
    with pytest.raises(InputError, match="not a rectangle inside 100×100"):
        predicted(gray()).figure(gray(100, 100))


def test_the_question_is_neither_compared_nor_written_nor_printed() -> None:
    known = predicted(gray())
    assert known == replace(known, question=None)
    assert "question" not in known.to_json()
    assert "Which digit?" not in repr(known)


# What is kept.


def replying(messages: Sequence[Message]) -> str:
    boxes = '[{"bbox_2d": [400, 400, 500, 500], "label": "tag"}]'
    return boxes if "JSON list of boxes" in said(messages) else "<answer>5</answer>"


def test_a_single_prediction_keeps_its_question() -> None:
    with P2R(FakeModel(replying), settings=SMALL) as p2r:
        prediction = p2r.answer(gray(), "Which digit?", ["4", "5"])
        assert has(prediction.figure(), shade(0))
    question = Question(gray(), "Which digit?", ("4", "5"))
    assert asyncio.run(P2R(FakeModel(replying), settings=SMALL).predict(question)).question is question


def test_predictions_that_are_collected_do_not_keep_images_in_memory() -> None:
    kept: list[weakref.ref[np.ndarray]] = []

    def questions() -> list[Question]:
        images = [gray() for _ in range(4)]
        kept.extend(map(weakref.ref, images))
        return [Question(image, "Which?", answer_type="number") for image in images]

    async def run(asked: list[Question]) -> list[object]:
        pipeline = P2R(FakeModel(replying), settings=SMALL)
        return [await attempt(pipeline, question, "p2r") for question in asked]

    with P2R(FakeModel(replying), settings=SMALL) as p2r:
        collected = [*p2r.answer_many(iter(questions())), *asyncio.run(run(questions()))]
    gc.collect()
    assert [prediction.answer for prediction in collected] == ["5"] * 8  # type: ignore[attr-defined]
    assert [image() is None for image in kept] == [True] * 8


def test_predictions_of_files_keep_their_questions(tmp_path: Path) -> None:
    path = tmp_path / "gray.png"
    PIL.Image.fromarray(gray()).save(path)
    uri = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
    given: tuple[Any, ...] = (path, str(path), uri, [path, gray()])
    questions = [Question(image, "Which?", answer_type="number") for image in given]
    with P2R(FakeModel(replying), settings=SMALL) as p2r:
        kept = [prediction.question for prediction in p2r.answer_many(questions)]
    assert kept == [*questions[:2], None, None]


# `show`.


class Viewer(PIL.ImageShow.Viewer):
    """A viewer that keeps what it is shown."""

    def __init__(self) -> None:
        self.images: list[PIL.Image.Image] = []

    def show(self, image: PIL.Image.Image, **_: object) -> int:
        self.images.append(image)
        return 1


def test_show_opens_the_viewer_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    viewer = Viewer()
    monkeypatch.setattr(PIL.ImageShow, "_viewers", [viewer])
    predicted(gray()).show()
    predicted().show(gray())
    evidence_of((BOX,)).show()  # type: ignore[attr-defined]
    assert len(viewer.images) == 3
    monkeypatch.setattr(PIL.ImageShow, "_viewers", [])
    with pytest.raises(InputError, match="no image viewer"):
        predicted(gray()).show()
    with pytest.raises(InputError, match="does not keep its image"):
        predicted().show()


def test_show_displays_in_a_notebook_and_not_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    # Stands in for IPython, which is not installed here; the tutorial runs in a real one.
    displayed: list[object] = []
    shells = iter([SimpleNamespace(kernel=None), SimpleNamespace()])
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: next(shells)))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=displayed.append))
    viewer = Viewer()
    monkeypatch.setattr(PIL.ImageShow, "_viewers", [viewer])
    prediction = predicted(gray())
    prediction.show()
    assert displayed == [prediction]
    prediction.show()
    assert (len(displayed), len(viewer.images)) == (1, 1)
