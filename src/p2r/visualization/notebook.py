"""Predictions and evidence in a notebook.

Colors are inherited or translucent, so that they can be read on light and on dark pages. Texts come from
models and files: all are escaped.
"""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING

import PIL.ImageShow
import pybase64

from p2r.errors import InputError
from p2r.types import Question
from p2r.visualization.figure import evidence_figure, images, named
from p2r.visualization.text import Lettering

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL.Image import Image

    from p2r.images import ImageInput
    from p2r.types import Evidence, Prediction

MAX_SIDE = 1000  # of an image in HTML, in pixels
_ANSWER = "display:inline-block;margin:4px 0;padding:4px 12px;background:rgba(127,127,127,.2)"


def asked(
    prediction: Prediction, image: ImageInput | Sequence[ImageInput] | Question | None = None
) -> Question:
    """The question of a prediction with this image; its text is the prediction's id if it is not known.

    Raises:
        InputError: there is neither a question nor an image.
    """
    known = image if isinstance(image, Question) else prediction.question
    if image is not None and not isinstance(image, Question):
        text = prediction.id or "(the question is not known)"
        return replace(known, image=image) if known else Question(image, text)
    if known is None:
        raise InputError("this prediction does not keep its image: give it, as in figure('street.jpg')")
    return known


def prediction_html(prediction: Prediction) -> str:
    """The question, its image, the answer and the texts as HTML; without an image, why there is none."""
    question, answer = prediction.question, prediction.answer or prediction.error or "none"
    heading = f"<b>{escape(question.text)}</b>" if question else ""
    options = map(escape, map(question.option, question.letters)) if question else ()
    answer = named(question, answer) if question else answer
    try:
        letters = Lettering(box.label for box in prediction.boxes)
        shown = _img(images(letters, prediction, asked(prediction)))
    except InputError as error:
        shown = f"<i>{escape(str(error))}</i>"
    looks = [f"image {look.image + 1}, {look.region.as_tuple()}: {look.text}" for look in prediction.looks]
    seconds = prediction.seconds.get("total", 0.0)
    return _page(
        heading,
        " &emsp; ".join(options),
        shown,
        f'<span style="{_ANSWER}">{escape(prediction.status)}: <b>{escape(answer)}</b></span>',
        _folded("thinking", prediction.thinking),
        _folded("looks", "\n".join(looks)),
        _folded("notes", "\n".join(prediction.notes)),
        f"<small>{escape(f'{prediction.model} · {prediction.mode} · {seconds:.2f} s')}</small>",
    )


def evidence_html(evidence: Evidence) -> str:
    """The images that the reasoner is shown as HTML."""
    return _page(_img(evidence_figure(evidence)), _folded("notes", "\n".join(evidence.notes)))


def show(value: Prediction | Evidence) -> None:
    """Display it below the cell of a notebook; elsewhere open its figure in the system's image viewer.

    Raises:
        InputError: there is no image viewer.
    """
    ipython = sys.modules.get("IPython")
    if ipython and hasattr(ipython.get_ipython(), "kernel"):  # not IPython in a terminal
        sys.modules["IPython.display"].display(value)
    elif not PIL.ImageShow.show(value.figure()):
        raise InputError("this machine has no image viewer: write it with .figure().save('figure.png')")


def _page(*parts: str) -> str:
    # The classes keep notebooks from reading dollar signs as mathematics.
    inside = "".join(f"<div>{part}</div>" for part in parts if part)
    return f'<div class="tex2jax_ignore mathjax_ignore" style="max-width:{MAX_SIDE}px">{inside}</div>'


def _img(image: Image) -> str:
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=85, subsampling=0)  # text stays sharp
    uri = f"data:image/jpeg;base64,{pybase64.b64encode_as_string(data.getvalue())}"
    return f'<img src="{uri}" alt="the image with its boxes, and the crops">'


def _folded(title: str, text: str) -> str:
    body = f'<div style="white-space:pre-wrap;margin-left:1em">{escape(text)}</div>'
    return f"<details><summary>{title}</summary>{body}</details>" if text else ""
