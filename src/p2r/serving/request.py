"""From the request of a client to the question, the settings and the form of the reply.

Chat clients send the whole conversation each time. Its newest text of the user is the question, and the
newest message with images has its images; earlier ones are not read and may hold anything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel

from p2r.errors import InputError
from p2r.parsing.options import reply_format, split_options
from p2r.serving.errors import APIError, invalid_field
from p2r.serving.request_image import RequestImage
from p2r.serving.schema import MODEL_NAMES, ImagePart, ImageUrl, Options, TextPart
from p2r.serving.structured import find_schema, forced_tool, read_form
from p2r.types import Box, Question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.serving.config import ServingConfig
    from p2r.serving.fetching import ImageFetcher
    from p2r.serving.http import HeldMemory
    from p2r.serving.page.store import HeldImage
    from p2r.serving.schema import AskRequest, Fields, ModelName, Turn
    from p2r.serving.structured import Form
    from p2r.settings import Settings
    from p2r.types import AnswerType, Mode

_SYSTEM = ("system", "developer")
_MODES: dict[ModelName, Mode] = {
    "p2r": "p2r",
    "p2r-think": "think",
    "p2r-direct": "direct",
    "p2r-letter": "p2r",
}


@dataclass(slots=True)
class ParsedRequest:
    """One request, checked and read.

    Attributes:
        model: the requested model.
        text, choices, answer_type: the question; its options are those in its text, or in the schema of the
            answer.
        images: of the question.
        mode, boxes, settings: arguments of the pipeline.
        options: our own options.
        fields: of the request, among them the limits of the answer.
        form: of the answer if it is JSON; `tool` is the function that takes it.
        letter_format: how the text requests the letter, as `ANSWER: $LETTER`; empty for no request.
        stream: whether the reply is streamed.
        ignored: paths of what has no effect.
    """

    model: ModelName
    text: str
    choices: tuple[str, ...]
    answer_type: AnswerType
    images: list[RequestImage]
    mode: Mode
    boxes: tuple[Box, ...] | None
    settings: Settings
    options: Options
    fields: Fields
    form: Form | None
    tool: str
    letter_format: str
    stream: bool
    ignored: tuple[str, ...]

    @property
    def upload(self) -> HeldImage | None:
        """The image, if it was uploaded and is the only one."""
        return self.images[0].upload if len(self.images) == 1 else None

    async def question(
        self, fetcher: ImageFetcher, config: ServingConfig, held: HeldMemory, request_id: str
    ) -> Question:
        """The question with its images, fetched where the request has addresses; `held` counts their bytes.

        Raises:
            APIError: an image or the question cannot be used; names the field.
        """
        held.resize(sum(len(image.data) for image in self.images if isinstance(image.data, bytes)))
        sources = [await image.source(fetcher, config, held) for image in self.images]
        try:
            return Question(sources, self.text, self.choices, self.answer_type, id=request_id)
        except InputError as error:
            raise APIError(400, str(error), param="messages", code="invalid_question") from None


def parse_request(request: AskRequest, settings: Settings, config: ServingConfig) -> ParsedRequest:
    """Check and read a request.

    Raises:
        APIError: a part of it is not served; names the field.
    """
    model, options = known_model(request.model, param="model"), request.p2r or Options()
    fields = request.fields()
    ignored = _without_effect(request, fields)
    talk = read_conversation(fields.turns)
    path, schema, tool = _requested_form(request, fields) or ("", None, "")
    if path and schema is None:
        schema = talk.take_schema()
    text, choices = split_options(talk.text)
    if not text:
        raise invalid_field(talk.text_path, "there are options and no question before them")
    form = read_form(schema, path, choices) if path else None
    if form and not choices:
        choices = form.choices
    if form and fields.stop:
        ignored.append("stop")
        fields = fields._replace(stop=())
    if sum(map(len, (talk.text, *talk.system, *choices))) > config.max_text_chars:
        raise invalid_field("messages", f"there are more than {config.max_text_chars:,} characters of text")
    if model == "p2r-letter" and not choices:
        raise invalid_field(
            talk.text_path,
            'p2r-letter answers with the letter of an option, and there are none in the text: write "A. …" '
            'and "B. …", each on a line, or use the model p2r',
        )
    if len(talk.images) > config.max_images:
        raise invalid_field(
            talk.images[config.max_images].path,
            f"a question has at most {config.max_images} images here, and this one has {len(talk.images)}",
        )
    if choices and options.answer_type:
        raise invalid_field("p2r.answer_type", "the question has options: its answer is one of them")
    numeric = form is not None and form.answer_type == "number"
    mode = _mode(model, options)
    return ParsedRequest(
        model=model,
        text=text,
        choices=choices,
        answer_type="choice" if choices else "number" if numeric else options.answer_type or "free",
        images=talk.images,
        mode=mode,
        boxes=_boxes(options, len(talk.images)),
        settings=_settings(settings, options, config, talk.system),
        options=options,
        fields=fields,
        form=form,
        tool=tool,
        letter_format=reply_format("\n".join((*talk.system, talk.text))),
        stream=bool(request.stream),
        ignored=(*ignored, *talk.ignored),
    )


def known_model(name: str, param: str | None = None) -> ModelName:
    """The model of this name.

    Raises:
        APIError: 404, there is none; `param` is the field that names it.
    """
    if name not in MODEL_NAMES:
        message = f"no such model: there are {', '.join(MODEL_NAMES)}"
        raise APIError(404, message, param=param, code="model_not_found")
    return name


def _mode(model: ModelName, options: Options) -> Mode:
    mode = options.mode or _MODES[model]
    if model in ("p2r-think", "p2r-direct") and mode != _MODES[model]:
        raise invalid_field(
            "p2r.mode", f"{model} always has the mode {_MODES[model]}: use the model p2r for others"
        )
    for name in ("include_images", "boxes"):
        if getattr(options, name) not in (None, False) and mode != "p2r":
            raise invalid_field(f"p2r.{name}", f"mode {mode} has no regions: leave it out")
    return mode


def _boxes(options: Options, images: int) -> tuple[Box, ...] | None:
    if options.boxes is None:
        return None
    try:
        boxes = tuple(Box(*each.box, each.label, each.image, each.zoom) for each in options.boxes)
    except InputError as error:
        raise invalid_field("p2r.boxes", str(error)) from None
    for index, box in enumerate(boxes):
        if box.image >= images:
            raise invalid_field(
                f"p2r.boxes.{index}.image", f"images are numbered from 0 to {images - 1} here"
            )
    return boxes


def _settings(settings: Settings, options: Options, config: ServingConfig, system: Sequence[str]) -> Settings:
    budget, geometry, prompts = settings.budget, settings.geometry, settings.prompts
    for name in ("overview_max_pixels", "crop_max_pixels"):
        wanted, most = getattr(options, name), getattr(budget, name)
        if wanted is not None:
            if not budget.min_pixels <= wanted <= most:
                raise invalid_field(f"p2r.{name}", f"it must be within {budget.min_pixels:,}–{most:,} here")
            budget = replace(budget, **{name: wanted})
    if options.max_evidence is not None:
        if options.max_evidence > config.max_evidence:
            raise invalid_field("p2r.max_evidence", f"it must be within 1–{config.max_evidence} here")
        geometry = replace(geometry, max_crops=options.max_evidence)
    looks = settings.looks if options.looks is None else options.looks
    if looks > (most := max(settings.looks, config.max_looks)):
        raise invalid_field("p2r.looks", f"it must be within 1–{most} here")
    # The server's own system prompt is a template; a client's '$' is literal.
    texts = (prompts.system, *(text.replace("$", "$$") for text in system))
    prompts = replace(prompts, system="\n\n".join(text for text in texts if text.strip()))
    return replace(settings, budget=budget, geometry=geometry, prompts=prompts, looks=looks)


# The form of the answer.


def _requested_form(request: AskRequest, fields: Fields) -> tuple[str, object, str] | None:
    """The path of the schema of the answer, the schema (None for any), and the function that takes it."""
    if tool := forced_tool(request.tools, request.tool_choice):
        return tool
    answer_format = fields.answer_format
    if not isinstance(answer_format, dict):
        answer_format = {"type": answer_format}
    kind, schema = answer_format.get("type"), answer_format.get("schema")
    if _is_empty(kind) or kind == "text":
        return None
    if kind == "json_object" or (kind == "json_schema" and schema is not None):
        return fields.format_path, schema, ""
    field = fields.format_path.partition(".")[0]
    raise invalid_field(field, "served are the types text, json_object, and json_schema with a schema")


# Fields without effect.


def _is_empty(value: object) -> bool:
    """Whether a field could have been left out."""
    return value is None or value is False or value in ("", "auto", "none", [], {})


def _extras(model: BaseModel, path: str = "") -> list[str]:
    """The paths of the fields that are not known and not empty, in inner models too."""
    prefix = f"{path}." if path else ""
    found = [prefix + name for name, value in (model.model_extra or {}).items() if not _is_empty(value)]
    for name, value in model:
        if isinstance(value, BaseModel):
            found += _extras(value, prefix + name)
    return found


def _without_effect(request: AskRequest, fields: Fields) -> list[str]:
    ignored = []
    for name in _extras(request):
        if name not in request.UNSERVED:
            ignored.append(name)
            continue
        why, defaults = request.UNSERVED[name]
        if getattr(request, name) not in defaults:
            raise invalid_field(name, why)
    if not _is_empty(request.tools) and _is_empty(request.tool_choice):
        ignored.append("tools")
    if fields.include_usage and not request.stream:
        ignored.append("stream_options")
    return ignored


# The conversation.


@dataclass(slots=True)
class Conversation:
    """What is read of the messages.

    Attributes:
        text, text_path: the question.
        images: its images.
        system: the texts of the system prompts.
        ignored: paths of what is not read.
    """

    text: str
    text_path: str
    images: list[RequestImage]
    system: list[str]
    ignored: list[str]

    def take_schema(self) -> object:
        """Remove the JSON schema that is written in a system prompt or in the question; None for none."""
        for index, text in enumerate(self.system):
            if found := find_schema(text):
                self.system[index] = found.before
                return found.schema
        if found := find_schema(self.text):
            self.text = found.before or found.after
            return found.schema
        return None


class _Part(NamedTuple):
    """A part of a message: as it was sent, and its text or the address of its image."""

    path: str
    raw: object
    text: str = ""
    image: str = ""
    image_path: str = ""


def read_conversation(turns: Sequence[Turn]) -> Conversation:
    """Find the question and its images.

    Raises:
        APIError: there is none; names the field.
    """
    texts, newest = _question([turn for turn in turns if turn.message.role not in _SYSTEM])
    images = _images(turns, newest)
    system = [part for turn in turns if turn.message.role in _SYSTEM for part in _parts(turn) if part.text]
    read = {part.path for part in (*texts, *system, *images)}
    return Conversation(
        text="\n".join(part.text for part in texts),
        text_path=texts[0].path,
        images=[RequestImage(part.image, part.image_path) for part in images],
        system=[part.text for part in system],
        ignored=[path for turn in turns for path in _unread(turn, read)],
    )


def _parts(turn: Turn) -> list[_Part]:
    content, path = turn.message.content, turn.content_path
    if isinstance(content, str):
        return [_Part(path, content, content)]
    parts = content if isinstance(content, list) else []
    return [_part(raw, f"{path}.{index}") for index, raw in enumerate(parts)]


def _part(raw: object, path: str) -> _Part:
    if isinstance(raw, ImagePart):
        if isinstance(raw.image_url, ImageUrl):
            return _Part(path, raw, image=raw.image_url.url, image_path=f"{path}.image_url.url")
        return _Part(path, raw, image=raw.image_url, image_path=f"{path}.image_url")
    if isinstance(raw, TextPart):
        return _Part(path, raw, raw.text)
    return _Part(path, raw, raw if isinstance(raw, str) else "")


def _question(talk: Sequence[Turn]) -> tuple[list[_Part], Turn]:
    """The parts with the text of the question, and the newest message of the user."""
    users = [index for index, turn in enumerate(talk) if turn.message.role == "user"]
    if not users:
        raise invalid_field("messages", "there is no message of the user, so there is no question")
    last, newest = talk[-1], talk[users[-1]]
    if last.message.role == "assistant" and any(part.text.strip() for part in _parts(last)):
        raise invalid_field(
            f"{last.path}.role",
            "a reply is not continued: the last message must be the user's, with the question",
        )
    if not isinstance(newest.message.content, str | list | None):
        raise invalid_field(newest.content_path, "this must be a text, or a list of parts")
    for part in _parts(newest):
        if not isinstance(part.raw, str | TextPart | ImagePart | None):
            raise _unreadable(part)
    # Some clients send the image and the text as two messages.
    for turn in reversed(talk[: users[-1] + 1]):
        if turn.message.role != "user":
            break
        if found := [part for part in _parts(turn) if part.text.strip()]:
            return found, newest
    raise invalid_field(newest.content_path, "there is no text, so there is no question")


def _unreadable(part: _Part) -> APIError:
    kind = part.raw.get("type") if isinstance(part.raw, dict) else None
    if kind in ("text", "input_text"):
        return invalid_field(f"{part.path}.text", "this must be a text")
    if kind in ("image_url", "input_image"):
        within = "image_url.url" if kind == "image_url" else "image_url"
        return invalid_field(f"{part.path}.{within}", "this must be a data: URI, or an address of an image")
    return invalid_field(part.path, f"only text and image_url are served: {str(kind)[:40]!r} is not read")


def _images(turns: Sequence[Turn], newest: Turn) -> list[_Part]:
    """The images of the newest message that has any."""
    for turn in reversed(turns):
        if images := [part for part in _parts(turn) if part.image_path]:
            return images
    message = "there is no image in the conversation: add one to the question, as an image_url"
    raise invalid_field(newest.content_path, message)


def _unread(turn: Turn, read: set[str]) -> list[str]:
    parts = _parts(turn)
    if not any(part.path in read for part in parts):
        return [turn.path]
    paths = _extras(turn.message, turn.path)
    for part in parts:
        if part.path not in read:
            paths += [part.path] if part.raw else []
        elif isinstance(part.raw, BaseModel):
            paths += _extras(part.raw, part.path)
    return paths
