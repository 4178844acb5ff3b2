"""What happened to a question, as HTML: the picture with its boxes, the crops, the thinking, the answer.

Everything that a model, a picture or a person said is escaped here; it is never markup.
"""

from __future__ import annotations

import base64
from html import escape
from typing import TYPE_CHECKING

from p2r.annotation import annotated, fitted, framed, inscribed, shade
from p2r.lettering import Lettering, clean
from p2r.serving.page.gallery import jpeg

if TYPE_CHECKING:
    import PIL.Image

    from p2r.images import ImageSource
    from p2r.types import Evidence, Perception, Prediction, Question, RectPx, Sample

PICTURE_ROOM = (1280, 960)
CROP_ROOM = (640, 480)

_OUTCOMES = {
    "whole": "The model needs the whole picture: it named no region.",
    "malformed": "The model's reply held no region that could be read: it reasons about the whole picture.",
}


def status(text: str, *, busy: bool = False) -> str:
    """What goes on; screen readers read it out as it changes."""
    kind = "p2r-busy" if busy else "p2r-idle"
    return f'<p class="p2r-status {kind}" role="status">{escape(text)}</p>'


def problem(text: str) -> str:
    """What went wrong; screen readers read it out at once."""
    return f'<p class="p2r-status p2r-problem" role="alert">{escape(text)}</p>'


def note(text: str) -> str:
    """Something to know before asking."""
    return f'<p class="p2r-note">{escape(text)}</p>'


def evidence(source: ImageSource, perception: Perception, found: Evidence) -> str:
    """The picture with numbered boxes, and the crops in the same colours.

    Raises:
        InputError: the picture is damaged.
    """
    boxes = perception.boxes
    letters = Lettering([box.label for box in boxes])
    picture = annotated(letters, source, boxes, fitted(source.size, PICTURE_ROOM))
    names = [f"{index} {clean(box.label)}".strip() for index, box in enumerate(boxes, 1)]
    if names:
        regions = "region" if len(names) == 1 else "regions"
        alt = f"The picture with {len(names)} outlined {regions}: {', '.join(names)}"
        caption = "Where the model looks"
    else:
        alt, caption = "The whole picture, without outlined regions", _OUTCOMES[perception.outcome]
    parts = [_figure("p2r-overview", picture, alt, escape(caption))]
    if found.crops:
        crops = [
            _crop(letters, source, index, names[index], crop.region_px)
            for index, crop in enumerate(found.crops)
        ]
        parts.append(f'<ol class="p2r-crops" aria-label="Close-ups">{"".join(crops)}</ol>')
    parts += [f'<p class="p2r-small">{escape(each)}</p>' for each in found.notes]
    return f'<section class="p2r-evidence" aria-label="What the model looks at">{"".join(parts)}</section>'


def _crop(letters: Lettering, source: ImageSource, index: int, name: str, region_px: RectPx) -> str:
    x0, y0, x1, y1 = region_px
    # Enlarged where it is small: it is there to be read.
    size = inscribed((x1 - x0, y1 - y0), CROP_ROOM)
    picture = framed(letters, source, region_px, str(index + 1), index, size)
    place = f"{x1 - x0} × {y1 - y0} pixels of the original"
    colour = "rgb({},{},{})".format(*shade(index))
    caption = f'<span style="border-color: {colour}">{escape(name)}</span> <small>{place}</small>'
    return f"<li>{_figure('p2r-crop', picture, f'Close-up {name}', caption)}</li>"


def _figure(kind: str, picture: PIL.Image.Image, alt: str, caption: str) -> str:
    uri = "data:image/jpeg;base64," + base64.b64encode(jpeg(picture)).decode()
    size = f'width="{picture.width}" height="{picture.height}"'
    image = f'<img src="{uri}" alt="{escape(alt, quote=True)}" {size}>'
    return f'<figure class="{kind}">{image}<figcaption>{caption}</figcaption></figure>'


def thinking(title: str, text: str) -> str:
    """An answer that is on its way."""
    return _column(title, "", text, "", busy=True)


def waiting(title: str) -> str:
    """An answer that will be asked for."""
    return _column(title, "", "", "", busy=True)


def answered(title: str, question: Question, prediction: Prediction) -> str:
    """An answer, its thinking, and what it took."""
    if prediction.answer is None:
        why = "it ran into its token limit" if prediction.truncated else "; ".join(prediction.notes)
        answer = f"no answer: {why}" if why else "no answer"
    elif question.choices:
        answer = question.option(prediction.answer)
    else:
        answer = prediction.answer
    seconds = dict(prediction.seconds)
    total = seconds.pop("total", 0.0)
    stages = ", ".join(f"{stage} {took:.2f}" for stage, took in seconds.items())
    usage = prediction.usage
    calls = f"{usage.calls} call" + ("s" if usage.calls != 1 else "")
    cost = (
        f"{total:.2f} s ({stages}) · {usage.prompt_tokens} + {usage.completion_tokens} tokens in {calls} · "
        f"{prediction.reasoner}"
    )
    return _column(title, answer, prediction.thinking, cost)


def _column(title: str, answer: str, thought: str, cost: str, *, busy: bool = False) -> str:
    parts = [f"<h2>{escape(title)}</h2>"]
    if answer:
        parts.append(f'<p class="p2r-answer">{escape(answer)}</p>')
    elif busy:
        parts.append('<p class="p2r-answer p2r-waiting" aria-hidden="true">…</p>')
    if thought:
        parts.append(f'<h3>Thinking</h3><p class="p2r-thinking">{escape(thought)}</p>')
    if cost:
        parts.append(f'<p class="p2r-small">{escape(cost)}</p>')
    label = escape(title, quote=True)
    state = "true" if busy else "false"
    return f'<section class="p2r-column" aria-label="{label}" aria-busy="{state}">{"".join(parts)}</section>'


def links(name: str) -> str:
    """Where the result can be had."""
    return (
        '<p class="p2r-links">Keep it: '
        f'<a href="page/results/{name}/figure.png" download="p2r-{name[:6]}.png">figure (PNG)</a> '
        f'<a href="page/results/{name}/result.json" download="p2r-{name[:6]}.json">everything (JSON)</a></p>'
    )


def examples(scenes: dict[str, Sample]) -> str:
    """A button for each bundled scene."""
    buttons = [
        f'<li><button type="button" data-scene="{escape(name, quote=True)}">'
        f'<img src="page/thumbnails/{escape(name, quote=True)}" alt="" width="320" height="180">'
        f"<span>{escape(sample.question.text)}</span></button></li>"
        for name, sample in scenes.items()
    ]
    return f'<ul class="p2r-examples" aria-label="Examples">{"".join(buttons)}</ul>'
