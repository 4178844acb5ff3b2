"""The data types of the method, as frozen dataclasses.

Boxes are `(x0, y0, x1, y1)` in 0–1000, origin top left, relative to the image's width and height.
Rectangles in pixels carry `_px` in their name and are half-open: `x1` and `y1` are outside.
Texts of questions, samples and boxes can be encoded as UTF-8 (`p2r.text.encodable`).
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from p2r.box import Box as Box
from p2r.errors import InputError
from p2r.text import encodable, is_data_uri

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import PIL.Image

    from p2r.images import EncodedImage, ImageInput
    from p2r.images import RectPx as RectPx

AnswerType = Literal["choice", "number", "free"]
BoxFormat = Literal["qwen3", "pixels", "gemini", "unit"]
Mode = Literal["p2r", "think", "direct"]
PerceptionOutcome = Literal["boxes", "whole", "malformed"]
Status = Literal["answered", "no_answer", "failed"]

MODES: tuple[Mode, ...] = ("p2r", "think", "direct")
# How a model writes a box (docs/prompts.md).
BOX_FORMATS: tuple[BoxFormat, ...] = ("qwen3", "pixels", "gemini", "unit")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Question:
    """A question about an image, or about several. It never holds the answer, so that none can leak.

    Attributes:
        image: a path, bytes, data URI, PIL image, numpy array (H, W, 3) or an open `ImageSource`; or a list
            of them. A list of one image is that image.
        text: the question, without its options.
        choices: the options in order (A, B, …), at least two, or none. Options may have equal texts, as in
            some rows of benchmarks; the letter tells them apart.
        answer_type: `choice` when there are choices; otherwise `number` or `free`.
        id: a name for logs and result files.

    Raises:
        InputError: no image, an empty text, one choice, an empty choice, or choices that the type excludes.
    """

    image: ImageInput | Sequence[ImageInput]
    text: str
    choices: tuple[str, ...] = ()
    answer_type: AnswerType = "free"
    id: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.image, list | tuple):
            if not self.image:
                raise InputError("the question has no image")
            object.__setattr__(self, "image", self.image[0] if len(self.image) == 1 else tuple(self.image))
        if not self.text.strip():
            raise InputError("the question is empty")
        choices = tuple(encodable(choice.strip()) for choice in self.choices)
        object.__setattr__(self, "text", encodable(self.text))
        object.__setattr__(self, "id", encodable(self.id))
        object.__setattr__(self, "choices", choices)
        if choices:
            self._check_choices(choices)
            if self.answer_type == "number":
                raise InputError("a question of type number takes no choices")
            object.__setattr__(self, "answer_type", "choice")
        elif self.answer_type == "choice":
            raise InputError("a question of type choice needs at least two choices")
        elif self.answer_type not in ("number", "free"):
            raise InputError(f"unknown answer type {self.answer_type!r}: choice, number or free")

    @staticmethod
    def _check_choices(choices: tuple[str, ...]) -> None:
        if len(choices) == 1:
            raise InputError("one choice is none: give at least two, or leave them out")
        if len(choices) > len(LETTERS):
            raise InputError(f"{len(choices)} choices: at most {len(LETTERS)} are supported")
        if not all(choices):
            raise InputError("a choice is empty")

    @property
    def images(self) -> tuple[ImageInput, ...]:
        """All images of the question, in order; usually one."""
        return self.image if isinstance(self.image, tuple) else (self.image,)

    @property
    def is_light(self) -> bool:
        """Whether it holds no image, only the paths of files."""
        return all(
            isinstance(image, (str, os.PathLike)) and not is_data_uri(str(image)) for image in self.images
        )

    @property
    def letters(self) -> str:
        """The option letters of this question, for example `"ABCD"`; empty without choices."""
        return LETTERS[: len(self.choices)]

    def option(self, letter: str) -> str:
        """An option with its letter: `B. blue`."""
        return f"{letter}. {self.choices[self.letters.index(letter)]}"


@dataclass(frozen=True, slots=True)
class Sample:
    """A question with its gold answer, for training and evaluation.

    Attributes:
        question: the input of the pipeline.
        answer: the option letter for `choice`; otherwise the number or text.
        boxes: the gold evidence; `()` when the whole image is needed, None when unknown.
        category: the benchmark's category or the scene's family.
        aliases: other right answers (free form).
    """

    question: Question
    answer: str
    boxes: tuple[Box, ...] | None = None
    category: str = ""
    aliases: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "answer", encodable(self.answer))
        object.__setattr__(self, "category", encodable(self.category))
        object.__setattr__(self, "aliases", tuple(map(encodable, self.aliases)))


@dataclass(frozen=True, slots=True)
class Perception:
    """The result of reading the perceiver's text.

    Attributes:
        outcome: `boxes`; `whole` (an empty list, on purpose); `malformed` (nothing usable).
        boxes: the usable boxes in the order written; empty unless the outcome is `boxes`.
        warnings: one reason for each thing that was left out or corrected.
        text: the raw text.
        repeats: boxes nearly equal to an earlier one, which count once and are not in `boxes`. The overlap
            gate of training uses them.
        format_warning: the reply seems to be in another box format than `Settings.box_format`; names it.
    """

    outcome: PerceptionOutcome
    boxes: tuple[Box, ...] = ()
    warnings: tuple[str, ...] = ()
    text: str = ""
    repeats: tuple[Box, ...] = ()
    format_warning: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "warnings", tuple(map(encodable, self.warnings)))
        object.__setattr__(self, "text", encodable(self.text))


@dataclass(frozen=True, slots=True)
class Look:
    """What the perceiver said about one region of an image.

    Attributes:
        region, boxes: what it was shown and what it found there, in the coordinates of the whole image.
        parent: the index of the look before it; None for the first, at the whole image.
    """

    region: Box
    parent: int | None
    text: str
    outcome: PerceptionOutcome
    boxes: tuple[Box, ...] = ()
    image: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data, with the region as `[x0, y0, x1, y1]`, 0–1000."""
        found = {"region": list(self.region.as_tuple()), "boxes": [box.to_json() for box in self.boxes]}
        return asdict(self) | found

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Look:
        """What `to_json` wrote."""
        found = {"region": Box(*data["region"]), "boxes": tuple(map(Box.from_json, data["boxes"]))}
        return cls(**{**data, **found})


@dataclass(frozen=True, slots=True)
class Crop:
    """One piece of evidence at full resolution.

    Attributes:
        image: the pixels handed to the reasoner.
        box: the perceiver's box, 0–1000.
        region_px: the rectangle of the original, box plus context, half-open pixels.
        color: the color of the box's outline on the overview, by name.
    """

    image: EncodedImage
    box: Box
    region_px: RectPx
    color: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """The images that the reasoner sees: the (annotated) overview, then the crops in box order.

    Attributes:
        overview: the whole image at its budget; boxes drawn on it when there are crops.
        crops: at most `Geometry.max_crops`; empty when there is no usable box.
        notes: remarks on the file and on its sizes, one sentence each.
        others: overviews of further images; `shown` are the indexes: of those with a box, or all.
    """

    overview: EncodedImage
    crops: tuple[Crop, ...] = ()
    notes: tuple[str, ...] = ()
    others: tuple[EncodedImage, ...] = ()
    shown: tuple[int, ...] = (0,)

    @property
    def overviews(self) -> tuple[EncodedImage, ...]:
        """All overviews, one for each of `shown`."""
        return (self.overview, *self.others)

    def figure(self) -> PIL.Image.Image:
        """The overviews and the crops as one RGB image for people."""
        from p2r.visualization.figure import evidence_figure

        return evidence_figure(self)

    def show(self) -> None:
        """Display the images in a notebook; elsewhere open them in the system's image viewer."""
        from p2r.visualization.notebook import show

        show(self)

    def _repr_html_(self) -> str:
        from p2r.visualization.notebook import evidence_html

        return evidence_html(self)


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of reading the reasoner's text.

    Attributes:
        value: the option letter for a choice question, otherwise the answer text; None for no answer.
        thinking: the text between the thinking tags; empty when there was none.
        reason: why there is no answer; empty when there is one.
        text: the raw text.
    """

    value: str | None
    thinking: str = ""
    reason: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and calls; instances add up."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    calls: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.calls + other.calls,
        )


@dataclass(frozen=True, slots=True)
class Prediction:
    """The result of one question: the answer, the evidence, and what both took.

    Attributes:
        id: the question's id.
        mode: `p2r`, `think` or `direct`.
        status: `answered`, `no_answer` (the text names none), `failed` (a model call failed).
        reply: the answer, with the text of the stage that answered; empty when it failed.
        perception: the perceiver's reply; None outside mode `p2r` and with given boxes.
        boxes: the boxes used as evidence, 0–1000.
        crops_px: the rectangles cut from the original, in pixels, one for each crop.
        usage: tokens of all stages.
        seconds: seconds for each stage that ran: `image`, `perceive`, `evidence`, `reason`, `total`.
        model, reasoner: names of the models in the two roles.
        digest: digest of prompts, geometry and budgets (`Settings.digest`).
        truncated: the answering stage ran into its token limit.
        notes: remarks about the image, the sizes and the replies, one sentence each.
        error: why the status is `failed`.
        looks, stopped: all looks, and why there were no more; empty unless `Settings.looks` is above 1.
        question: what was asked, for `figure`; not compared, not in JSON. None where many predictions may be
            kept: in runs, and from `answer_many` if the images are in memory.
    """

    id: str
    mode: Mode
    status: Status
    reply: Answer = Answer(None)
    perception: Perception | None = None
    boxes: tuple[Box, ...] = ()
    crops_px: tuple[RectPx, ...] = ()
    usage: Usage = field(default_factory=Usage)
    seconds: dict[str, float] = field(default_factory=dict)
    model: str = ""
    reasoner: str = ""
    digest: str = ""
    truncated: bool = False
    notes: tuple[str, ...] = ()
    error: str = ""
    looks: tuple[Look, ...] = ()
    stopped: str = ""
    question: Question | None = field(default=None, compare=False, repr=False)

    @property
    def answer(self) -> str | None:
        """The option letter, number or text; None unless answered."""
        return self.reply.value

    @property
    def thinking(self) -> str:
        """The reasoner's thinking."""
        return self.reply.thinking

    @property
    def text(self) -> str:
        """The raw text of the answering stage."""
        return self.reply.text

    def to_json(self) -> dict[str, Any]:
        """Plain data, as in result files, replies of the server and `p2r answer --json`.

        `perception` is the perceiver's raw text, `outcome` and `dropped` what was read from it; the first two
        are None without a perceiver. `looks` and `stopped` are only there if there are looks.
        """
        perception = self.perception
        return {
            "id": self.id,
            "mode": self.mode,
            "status": self.status,
            "answer": self.answer,
            "boxes": [box.to_json() for box in self.boxes],
            "crops_px": [list(rect) for rect in self.crops_px],
            "thinking": self.thinking,
            "text": self.text,
            "perception": perception.text if perception else None,
            "outcome": perception.outcome if perception else None,
            "dropped": list(perception.warnings) if perception else [],
            "usage": asdict(self.usage),
            "seconds": {stage: round(seconds, 4) for stage, seconds in self.seconds.items()},
            "model": self.model,
            "reasoner": self.reasoner,
            "digest": self.digest,
            "truncated": self.truncated,
            "notes": list(self.notes),
            "error": self.error,
            **(
                {"looks": [look.to_json() for look in self.looks], "stopped": self.stopped}
                if self.looks
                else {}
            ),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Prediction:
        """What `to_json` wrote; further keys are ignored, and missing ones but the first three have defaults.

        `Answer.reason`, `Perception.repeats` and `Perception.format_warning` are not in the data.
        """
        boxes = tuple(Box.from_json(box) for box in data.get("boxes", ()))
        perception = None
        if outcome := data.get("outcome"):
            read = boxes if outcome == "boxes" else ()
            warnings = tuple(data.get("dropped", ()))
            perception = Perception(outcome, read, warnings, data.get("perception") or "")
        same = ("id", "mode", "status", "model", "reasoner", "digest", "truncated", "error", "stopped")
        return cls(
            **{name: data[name] for name in same if name in data},
            reply=Answer(data.get("answer"), data.get("thinking", ""), text=data.get("text", "")),
            perception=perception,
            boxes=boxes,
            crops_px=tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in data.get("crops_px", ())),
            usage=Usage(**data.get("usage", {})),
            seconds=dict(data.get("seconds", {})),
            notes=tuple(data.get("notes", ())),
            looks=tuple(Look.from_json(look) for look in data.get("looks", ())),
        )

    def figure(
        self, image: ImageInput | Sequence[ImageInput] | Question | None = None, gold: str | None = None
    ) -> PIL.Image.Image:
        """The question, its image with the boxes, the crops and the answer as one RGB image for people.

        Args:
            image: the image or images, or the question with them; needed where `question` is None.
            gold: the right answer, a letter for a choice question; shown beside the answer.

        Raises:
            InputError: there is no image, it cannot be read, or the boxes are of another one.
        """
        from p2r.visualization.figure import figure
        from p2r.visualization.notebook import asked

        return figure(self, asked(self, image), gold=gold)

    def show(self, image: ImageInput | Sequence[ImageInput] | Question | None = None) -> None:
        """Display it in a notebook; elsewhere open its figure in the system's image viewer. See `figure`."""
        from p2r.visualization.notebook import asked, show

        show(replace(self, question=asked(self, image)))

    def _repr_html_(self) -> str:
        from p2r.visualization.notebook import prediction_html

        return prediction_html(self)


@dataclass(frozen=True, slots=True)
class Score:
    """Whether an answer is right.

    Attributes:
        correct: None when it could not be decided (no judge, or the judge failed): *no score*, never zero.
        method: `choice`, `number`, `exact` or `judge`.
        reason: one line.
    """

    correct: bool | None
    method: Literal["choice", "number", "exact", "judge"]
    reason: str = ""
