"""A request → what the pipeline is asked: question, mode and settings; and the form of the reply."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic import BaseModel

from p2r.errors import InputError
from p2r.images import ImageSource
from p2r.images.source import decode_data_uri
from p2r.images.threads import in_image_thread
from p2r.parsing.options import reply_format, split_options
from p2r.serving.conversation import asks_nothing, extras, read_conversation
from p2r.serving.errors import RequestFailed, refused
from p2r.serving.page.store import SCHEME
from p2r.serving.schema import MODEL_NAMES
from p2r.serving.structured import forced_tool, read_form
from p2r.types import Box, Question

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.serving.config import ServingConfig
    from p2r.serving.fetching import ImageFetcher
    from p2r.serving.memory import HeldMemory
    from p2r.serving.page.store import HeldImage, Store
    from p2r.serving.schema import AskRequest, ModelName, Options
    from p2r.serving.structured import Form
    from p2r.settings import Settings
    from p2r.types import AnswerType, Mode

_MODES: dict[ModelName, Mode] = {
    "p2r": "p2r",
    "p2r-think": "think",
    "p2r-direct": "direct",
    "p2r-letter": "p2r",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, understood.

    Attributes:
        model: as which it is answered.
        text, choices, answer_type: the question; its options are those in its text, or in the schema of the
            answer.
        image: its address, a `data:` URI too; its bytes once that is decoded.
        image_param: the path of the field that says so.
        mode: `p2r`, `think` or `direct`.
        settings: the server's, with what the request changes.
        ignored: paths of what was sent and has no effect.
        options: our own, as they were sent.
        form: of the answer, when it is JSON.
        letter_format: how the text wants the letter to be written, as `ANSWER: $LETTER`; empty for no wish.
        tool: the function that is called with the answer; empty for none.
        max_tokens: of the answer.
        stop: texts at which the answer ends.
        stream, include_usage: whether it is sent in pieces, and with the usage at their end.
        image_name: what errors call its bytes.
        boxes: evidence that the request gives; None asks the perceiver.
        upload: the image, when it was uploaded on the page.
    """

    model: ModelName
    text: str
    choices: tuple[str, ...]
    answer_type: AnswerType
    image: str | bytes
    image_param: str
    mode: Mode
    settings: Settings
    ignored: tuple[str, ...]
    options: Options
    form: Form | None
    letter_format: str
    tool: str
    max_tokens: int | None
    stop: tuple[str, ...]
    stream: bool
    include_usage: bool
    image_name: str = ""
    boxes: tuple[Box, ...] | None = None
    upload: HeldImage | None = None

    def decoded(self, config: ServingConfig, uploads: Store) -> Asked:
        """With the bytes of the image, if they are in the request, or with the upload that it names.

        Raises:
            RequestFailed: they are not, or are too many; names the field.
        """
        if not isinstance(self.image, str):
            return self
        if self.image.startswith(SCHEME):
            upload = uploads.image(self.image.removeprefix(SCHEME))
            if upload is None:
                raise self.unusable_image(InputError("the image is not here any more: upload it again"))
            return replace(self, upload=upload)
        if self.image[:5].lower() != "data:":
            return self
        try:
            name, data = decode_data_uri(self.image, config.image)
        except InputError as error:
            raise self.unusable_image(error) from None
        return replace(self, image=data, image_name=name)

    async def question(
        self, fetcher: ImageFetcher, config: ServingConfig, held: HeldMemory, name: str
    ) -> Question:
        """The question, its image fetched where it is not in the request, and opened.

        Args:
            fetcher: fetches it.
            config: of the server.
            held: what the image counts against from here on.
            name: of the question.

        Raises:
            RequestFailed: the image or the question cannot be used; names the field.
        """
        try:
            source = self.upload.source if self.upload else await self._opened(fetcher, config, held)
        except InputError as error:
            raise self.unusable_image(error) from None
        try:
            return Question(source, self.text, self.choices, self.answer_type, id=name)
        except InputError as error:
            raise RequestFailed(400, str(error), param="messages", code="invalid_question") from None

    async def _opened(self, fetcher: ImageFetcher, config: ServingConfig, held: HeldMemory) -> ImageSource:
        data = self.image
        if isinstance(data, str):
            data = await fetcher.fetch(data, held.resize)
        held.resize(len(data))
        # Never a plain text: it would be taken for a path.
        return await in_image_thread(ImageSource.open, data, config.image, name=self.image_name)

    def unusable_image(self, error: InputError) -> RequestFailed:
        """What a client is told about an image that cannot be used."""
        return RequestFailed(400, str(error), param=self.image_param, code="invalid_image")


def understand(request: AskRequest, settings: Settings, config: ServingConfig) -> Asked:
    """Read a request.

    Raises:
        RequestFailed: something in it is not served; names the field.
    """
    model, options = known_model(request.model, param="model"), request.options
    ignored = _without_effect(request)
    talk = read_conversation(request.turns)
    ignored += talk.ignored
    wanted = _wanted(request)
    if wanted and wanted.schema is None and not wanted.tool:
        wanted = replace(wanted, schema=talk.take_schema())
    text, choices = split_options(talk.text)
    if not text:
        raise refused(talk.text_path, "there are options and no question before them")
    form = read_form(wanted.schema, wanted.path, choices) if wanted else None
    if form and not choices:
        choices = form.choices
    if sum(map(len, (talk.text, *talk.system, *choices))) > config.max_text_chars:
        raise refused("messages", f"there are more than {config.max_text_chars:,} characters of text")
    if model == "p2r-letter" and not choices:
        raise refused(
            talk.text_path,
            'p2r-letter answers with the letter of an option, and there are none in the text: write "A. …" '
            'and "B. …", each on a line, or ask the model p2r',
        )
    if choices and options.answer_type:
        raise refused("p2r.answer_type", "the question has options: its answer is one of them")
    mode = _mode(model, options)
    return Asked(
        model=model,
        text=text,
        choices=choices,
        answer_type="choice" if choices else _answer_type(form, options),
        image=talk.image,
        image_param=talk.image_path,
        mode=mode,
        settings=_settings(settings, options, config, talk.system),
        ignored=(*ignored, *(["stop"] if form and request.stops else [])),
        options=options,
        form=form,
        letter_format=reply_format("\n".join((*talk.system, talk.text))),
        tool=wanted.tool if wanted else "",
        max_tokens=request.answer_tokens,
        stop=() if form else request.stops,
        stream=bool(request.stream),
        include_usage=bool(request.stream_usage),
        boxes=_boxes(options, mode),
    )


def _without_effect(request: AskRequest) -> list[str]:
    """The top-level fields that have no effect.

    Raises:
        RequestFailed: one that cannot be without.
    """
    ignored = []
    for name in extras(request, ""):
        if name not in request.UNSERVED:
            ignored.append(name)
            continue
        why, defaults = request.UNSERVED[name]
        if getattr(request, name) not in defaults:
            raise refused(name, why)
    if not asks_nothing(request.tools) and asks_nothing(request.tool_choice):
        ignored.append("tools")
    if request.stream_usage and not request.stream:
        ignored.append("stream_options")
    inner = [(name, value) for name, value in request if isinstance(value, BaseModel)]
    return ignored + [path for name, value in inner for path in extras(value, name)]


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A schema for the answer, None for any; `tool` is the function that takes the answer, if one does."""

    path: str
    schema: object
    tool: str = ""


def _wanted(request: AskRequest) -> _Wanted | None:
    if tool := forced_tool(request.tools, request.tool_choice):
        return _Wanted(*tool)
    path, answer_format = request.answer_format
    kind = answer_format.get("type") if isinstance(answer_format, dict) else answer_format
    if asks_nothing(kind) or kind == "text":
        return None
    if kind == "json_object":
        return _Wanted(path, answer_format.get("schema") if isinstance(answer_format, dict) else None)
    if kind == "json_schema" and answer_format.get("schema") is not None:
        return _Wanted(path, answer_format["schema"])
    field = path.partition(".")[0]
    raise refused(field, "served are the types text, json_object, and json_schema with a schema")


def _answer_type(form: Form | None, options: Options) -> AnswerType:
    return "number" if form and form.answer_type == "number" else options.answer_type or "free"


def known_model(name: str, param: str | None = None) -> ModelName:
    """One of the names as which questions are answered.

    Raises:
        RequestFailed: 404, there is no such model; `param` is the field that names it.
    """
    for known in MODEL_NAMES:
        if name == known:
            return known
    raise RequestFailed(
        404, f"no such model: there are {', '.join(MODEL_NAMES)}", param=param, code="model_not_found"
    )


def _mode(model: ModelName, options: Options) -> Mode:
    mode = options.mode or _MODES[model]
    if model in ("p2r-think", "p2r-direct") and mode != _MODES[model]:
        raise refused(
            "p2r.mode", f"{model} always has the mode {_MODES[model]}: ask the model p2r for others"
        )
    if options.include_images and mode != "p2r":
        raise refused("p2r.include_images", f"mode {mode} looks at the plain image: there is nothing to send")
    return mode


def _boxes(options: Options, mode: Mode) -> tuple[Box, ...] | None:
    if options.boxes is None:
        return None
    if mode != "p2r":
        raise refused("p2r.boxes", f"mode {mode} looks at the plain image: leave them out")
    try:
        return tuple(Box(*given.box, given.label) for given in options.boxes)
    except InputError as error:
        raise refused("p2r.boxes", str(error)) from None


def _settings(settings: Settings, options: Options, config: ServingConfig, system: Sequence[str]) -> Settings:
    budget, geometry, prompts = settings.budget, settings.geometry, settings.prompts
    for name in ("overview_max_pixels", "crop_max_pixels"):
        wanted, most = getattr(options, name), getattr(budget, name)
        if wanted is not None:
            if not budget.min_pixels <= wanted <= most:
                raise refused(f"p2r.{name}", f"it must be within {budget.min_pixels:,}–{most:,} here")
            budget = replace(budget, **{name: wanted})
    if options.max_evidence is not None:
        if options.max_evidence > config.max_evidence:
            raise refused("p2r.max_evidence", f"it must be within 1–{config.max_evidence} here")
        geometry = replace(geometry, max_crops=options.max_evidence)
    # The server's own is a template; a client's '$' means itself.
    texts = (prompts.system, *(text.replace("$", "$$") for text in system))
    prompts = replace(prompts, system="\n\n".join(text for text in texts if text.strip()))
    return replace(settings, budget=budget, geometry=geometry, prompts=prompts)
