"""Question → the messages of each role. No other module words or assembles a prompt.

All entry points call the three functions at the end, so that a question always gives the same messages. Other
wordings can be loaded from a TOML file (docs/prompts.md), because published checkpoints answer best to the
prompts of their training.
"""

from __future__ import annotations

import re
import string
import tomllib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from p2r.errors import InputError, file_problem
from p2r.models.base import Message

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from p2r.images import EncodedImage
    from p2r.types import BoxFormat, Evidence, Question

# The placeholders that each template may use, and those that it must.
_PLACEHOLDERS: dict[str, tuple[set[str], set[str]]] = {
    "system": (set(), set()),
    "perceive": ({"question", "choices", "box_format", "width", "height"}, {"question"}),
    "reason": ({"question", "choices", "hint", "count", "colours"}, {"question"}),
    "think": ({"question", "choices", "hint"}, {"question"}),
    "direct": ({"question", "choices", "hint"}, {"question"}),
    "choice_hint": (set(), set()),
    "number_hint": (set(), set()),
    "free_hint": (set(), set()),
}

# The text of `$box_format`, itself a template: an example of a reply, and what its coordinates are.
BOX_FORMAT_WORDING: dict[BoxFormat, str] = {
    "qwen3": (
        '[{"bbox_2d": [x1, y1, x2, y2], "label": "what is there"}]. '
        "Coordinates run from 0 to 1000 along the width and the height."
    ),
    "pixels": (
        '[{"bbox_2d": [x1, y1, x2, y2], "label": "what is there"}]. '
        "Coordinates are pixels of the image, which is $width pixels wide and $height pixels high."
    ),
    "gemini": (
        '[{"box_2d": [y1, x1, y2, x2], "label": "what is there"}]. '
        "y comes before x. Coordinates run from 0 to 1000 along the height and the width."
    ),
    "unit": (
        '[{"bbox_2d": [x1, y1, x2, y2], "label": "what is there"}]. '
        "Coordinates run from 0 to 1 along the width and the height."
    ),
}
# Of a question about several images: a line before each image, and what follows the prompt of the perceiver.
# They belong to no pack, so that packs and digests stay as they are.
IMAGE_LINE = "Image {number} of {count}:"
OUTLINED_LINE = "Image {number} of {count}, with the evidence outlined:"
CLOSE_UP_LINE = "Close-up from image {number}, outlined in {color}:"
SEVERAL_IMAGES = (
    "\nThe question is about {count} images. Every box names the image in which it lies, by a number from 1 "
    'to {count}, for example "image": {count}. Images without a box are left out later; [] keeps all of them.'
)
# The placeholder as `string.Template` finds it; `$$` is an escaped dollar sign.
_BOX_FORMAT = re.compile(r"\$\$|\$(?:box_format(?![_a-zA-Z0-9])|\{box_format\})")


@dataclass(frozen=True, slots=True)
class PromptPack:
    """The wording of every role, as `string.Template` texts (`$name`, and `$$` for a dollar sign).

    Attributes:
        name: of the pack, for error messages.
        system: the system message; none when empty.
        perceive: image → boxes. `$question`, `$choices`, `$box_format` (an example of a reply and what its
            coordinates are, for `Settings.box_format`), `$width` and `$height` (of the image as it is sent).
        reason: annotated overview and crops → answer. Also `$hint`, `$count` (of crops), `$colours`.
        think: plain image → thinking and answer; also used when there is no usable box.
        direct: plain image → bare answer.
        choice_hint, number_hint, free_hint: the text of `$hint` for each answer type.
    """

    name: str = "default"
    system: str = ""
    perceive: str = (
        "Find the evidence that answers the question.\n"
        "Question: $question$choices\n"
        "Reply with a JSON list of boxes: $box_format Draw as few boxes as the question "
        "needs, each close around its object. Reply [] if the whole picture is needed."
    )
    reason: str = (
        "The first picture shows the whole scene with the evidence outlined. "
        "Close-ups of the outlined regions follow, $count in all, in this order: $colours.\n"
        "Question: $question$choices\n"
        "Reason about what you see between <think> and </think>, "
        "then give the final answer between <answer> and </answer>. $hint"
    )
    think: str = (
        "Question: $question$choices\n"
        "Reason about what you see between <think> and </think>, "
        "then give the final answer between <answer> and </answer>. $hint"
    )
    direct: str = "Question: $question$choices\nReply with the final answer and nothing else. $hint"
    choice_hint: str = "The final answer is the letter of one option."
    number_hint: str = "The final answer is a number."
    free_hint: str = "The final answer is a few words at most."

    def __post_init__(self) -> None:
        for key, (known, needed) in _PLACEHOLDERS.items():
            where = f"prompt pack {self.name!r}: {key}"
            template = string.Template(getattr(self, key))
            if not template.is_valid():
                raise InputError(f"{where}: a lone '$'; write '$$' for a dollar sign")
            used = set(template.get_identifiers())
            if unknown := sorted(used - known):
                choices = ", ".join(f"${name}" for name in sorted(known)) or "none"
                raise InputError(f"{where}: unknown ${unknown[0]} (known: {choices})")
            if missing := sorted(needed - used):
                raise InputError(f"{where}: ${missing[0]} is missing")

    def perceive_template(self, box_format: BoxFormat) -> str:
        """The template of the perceiver with `$box_format` filled in."""
        wording = BOX_FORMAT_WORDING[box_format]
        return _BOX_FORMAT.sub(lambda found: "$$" if found[0] == "$$" else wording, self.perceive)

    @classmethod
    def load(cls, path: Path) -> PromptPack:
        """Read a pack from a TOML file whose keys are this class's attributes.

        Raises:
            InputError: the file cannot be read, or a key is unknown, not a text, or misses a placeholder.
        """
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise InputError(
                f"prompt pack {path}: {file_problem(error, 'docs/prompts.md shows one')}"
            ) from error
        known = [entry.name for entry in fields(cls)]
        for key, value in data.items():
            if key not in known:
                raise InputError(f"prompt pack {path}: unknown key {key!r} (known: {', '.join(known)})")
            if not isinstance(value, str):
                raise InputError(f"prompt pack {path}: {key} must be a text")
        return cls(**{"name": path.stem, **data})


def render_choices(question: Question) -> str:
    """The options as lines `\\nA. text`; empty without choices."""
    return "".join(f"\n{question.option(letter)}" for letter in question.letters)


def _fill(pack: PromptPack, template: str, question: Question, **more: str) -> str:
    hints = {"choice": pack.choice_hint, "number": pack.number_hint, "free": pack.free_hint}
    # A single substitution: a '$' in the user's own text is never expanded.
    return string.Template(template).substitute(
        question=question.text.strip(),
        choices=render_choices(question),
        hint=_plain(hints[question.answer_type]),
        **more,
    )


def _plain(template: str) -> str:
    # A template without placeholders: `$$` becomes `$`.
    return string.Template(template).substitute()


def _messages(pack: PromptPack, *content: str | EncodedImage) -> tuple[Message, ...]:
    user = Message("user", content)
    return (Message("system", (_plain(pack.system),)), user) if pack.system else (user,)


def perceive_messages(
    pack: PromptPack,
    question: Question,
    overview: EncodedImage,
    box_format: BoxFormat = "qwen3",
    others: Sequence[EncodedImage] = (),
) -> tuple[Message, ...]:
    """The perceiver's input: the plain overview, those of further images, and the question."""
    template = pack.perceive_template(box_format)
    used = string.Template(template).get_identifiers()
    size = {side: _side(side, (overview, *others)) for side in ("width", "height") if side in used}
    text = _fill(pack, template, question, **size)
    if others:
        text += SEVERAL_IMAGES.format(count=1 + len(others))
    return _messages(pack, *_numbered((overview, *others)), text)


def reason_messages(pack: PromptPack, question: Question, evidence: Evidence) -> tuple[Message, ...]:
    """The reasoner's input: overview, crops in box order, question.

    Without crops it is the prompt of mode `think`, which does not mention them. So it is for several images,
    where a line before each overview and each crop says what it is.
    """
    if (count := len(question.images)) > 1:
        line = OUTLINED_LINE if evidence.crops else IMAGE_LINE
        content: list[str | EncodedImage] = []
        for index, overview in zip(evidence.shown, evidence.overviews, strict=True):
            content += [line.format(number=index + 1, count=count), overview]
        for crop in evidence.crops:
            content += [CLOSE_UP_LINE.format(number=crop.box.image + 1, color=crop.color), crop.image]
        return _messages(pack, *content, _fill(pack, pack.think, question))
    if not evidence.crops:
        return _messages(pack, evidence.overview, _fill(pack, pack.think, question))
    text = _fill(
        pack,
        pack.reason,
        question,
        count=str(len(evidence.crops)),
        colours=", ".join(crop.color for crop in evidence.crops),
    )
    return _messages(pack, evidence.overview, *(crop.image for crop in evidence.crops), text)


def direct_messages(
    pack: PromptPack, question: Question, overview: EncodedImage, others: Sequence[EncodedImage] = ()
) -> tuple[Message, ...]:
    """The input of one pass without thinking: the plain overview, those of further images, the question."""
    return _messages(pack, *_numbered((overview, *others)), _fill(pack, pack.direct, question))


def _numbered(overviews: Sequence[EncodedImage]) -> Iterator[str | EncodedImage]:
    # The images, each after its line if there are several.
    for number, overview in enumerate(overviews, start=1):
        if len(overviews) > 1:
            yield IMAGE_LINE.format(number=number, count=len(overviews))
        yield overview


def _side(side: str, overviews: Sequence[EncodedImage]) -> str:
    # The width or the height of the images as they are sent.
    sides = [str(getattr(overview, side)) for overview in overviews]
    if len(sides) == 1:
        return sides[0]
    return ", ".join(f"{pixels} (image {number})" for number, pixels in enumerate(sides, start=1))
