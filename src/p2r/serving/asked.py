"""A chat request → what the pipeline is asked: question, mode and settings."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from p2r.errors import InputError
from p2r.images import ImageSource
from p2r.serving.failures import RequestFailed
from p2r.serving.protocol import IGNORED, MODEL_NAMES, ChatRequest, ImagePart, ModelName, Options
from p2r.types import Question
from p2r.written_options import split_options

if TYPE_CHECKING:
    from p2r.serving.config import ServingConfig
    from p2r.serving.pictures import PictureFetcher
    from p2r.serving.protocol import ChatMessage
    from p2r.settings import Settings
    from p2r.types import Mode

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
        text, choices: the question, and the options that stood in its text.
        picture: where it is, and the path of the field that says so.
        mode: `p2r`, `think` or `direct`.
        settings: the server's, with what the request changes.
        ignored: paths of what was sent and has no effect.
        request: as it was sent.
        source: the picture, when it was in the request and is open.
    """

    model: ModelName
    text: str
    choices: tuple[str, ...]
    picture: str
    picture_param: str
    mode: Mode
    settings: Settings
    ignored: tuple[str, ...]
    request: ChatRequest
    source: ImageSource | None = None

    def opened(self, config: ServingConfig) -> Asked:
        """With the picture open, if it is in the request.

        Raises:
            RequestFailed: the picture cannot be used; names the field.
        """
        # Never a plain text: the pipeline takes one for a path.
        within = self.picture[:5].lower() == "data:"
        return replace(self, source=self._open(self.picture, config)) if within else self

    async def question(self, fetcher: PictureFetcher, config: ServingConfig, name: str) -> Question:
        """The question, its picture fetched where it is not in the request.

        Raises:
            RequestFailed: the picture or the question cannot be used; names the field.
        """
        source = self.source
        if source is None:
            try:
                data = await fetcher.fetch(self.picture)
            except InputError as error:
                raise self.refused_picture(error) from None
            source = await asyncio.to_thread(self._open, data, config)
        try:
            answer_type = self.request.p2r.answer_type or "free"
            return Question(source, self.text, self.choices, answer_type, id=name)
        except InputError as error:
            raise RequestFailed(400, str(error), param="messages", code="invalid_question") from None

    def _open(self, picture: str | bytes, config: ServingConfig) -> ImageSource:
        try:
            return ImageSource.open(picture, config.picture)
        except InputError as error:
            raise self.refused_picture(error) from None

    def refused_picture(self, error: InputError) -> RequestFailed:
        """What a client is told about a picture that cannot be used."""
        return RequestFailed(400, str(error), param=self.picture_param, code="invalid_image")


def understand(request: ChatRequest, settings: Settings, config: ServingConfig) -> Asked:
    """Read a request.

    Raises:
        RequestFailed: something in it is not served; names the field.
    """
    model = known_model(request.model, param="model")
    ignored = [name for name in IGNORED if getattr(request, name) is not None]
    place = len(request.messages) - 1
    last = request.messages[place]
    if last.role != "user":
        raise _refused(f"messages.{place}.role", "the last message must be the user's: it is the question")
    text, picture, part = _contents(last, f"messages.{place}")
    system: list[str] = []
    for index, message in enumerate(request.messages[:-1]):
        if message.role in ("system", "developer"):
            system.append(_system_text(message, f"messages.{index}"))
        else:
            ignored.append(f"messages.{index}")
    if len(text) + sum(map(len, system)) > config.max_text_chars:
        raise _refused("messages", f"there are more than {config.max_text_chars:,} characters of text")
    body, choices = split_options(text)
    if not body:
        raise _refused(f"messages.{place}.content", "there are options and no question before them")
    if model == "p2r-letter" and not choices:
        raise _refused(
            f"messages.{place}.content",
            'p2r-letter answers with the letter of an option, and there are none in the text: write "A. …" '
            'and "B. …", each on a line, or ask the model p2r',
        )
    if choices and request.p2r.answer_type:
        raise _refused("p2r.answer_type", "the question has options: its answer is one of them")
    if request.stream_options and not request.stream:
        raise _refused("stream_options", "only a stream has them: set stream to true")
    return Asked(
        model=model,
        text=body,
        choices=choices,
        picture=picture,
        picture_param=part,
        mode=_mode(model, request.p2r),
        settings=_settings(settings, request.p2r, config, system),
        ignored=tuple(ignored),
        request=request,
    )


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


def _refused(param: str, why: str) -> RequestFailed:
    return RequestFailed(400, f"{param}: {why}", param=param, code="invalid_value")


def _contents(message: ChatMessage, path: str) -> tuple[str, str, str]:
    texts: list[str] = []
    pictures: list[tuple[str, str]] = []
    if isinstance(message.content, str):
        texts.append(message.content)
    for index, part in enumerate(message.content if isinstance(message.content, list) else ()):
        if isinstance(part, ImagePart):
            pictures.append((part.image_url.url, f"{path}.content.{index}.image_url.url"))
        else:
            texts.append(part.text)
    text = "\n".join(texts)
    if not pictures:
        raise _refused(
            f"{path}.content", "there is no picture in the last message; those of earlier turns are not read"
        )
    if len(pictures) > 1:
        raise _refused(pictures[1][1], "one question is about one picture, and this is another one")
    if not text.strip():
        raise _refused(f"{path}.content", "there is no text, so nothing is asked")
    return text, *pictures[0]


def _system_text(message: ChatMessage, path: str) -> str:
    if isinstance(message.content, str):
        return message.content
    texts = []
    for index, part in enumerate(message.content or ()):
        if isinstance(part, ImagePart):
            raise _refused(f"{path}.content.{index}", "a system prompt is text")
        texts.append(part.text)
    return "\n".join(texts)


def _mode(model: ModelName, options: Options) -> Mode:
    mode = options.mode or _MODES[model]
    if model in ("p2r-think", "p2r-direct") and mode != _MODES[model]:
        raise _refused(
            "p2r.mode", f"{model} always has the mode {_MODES[model]}: ask the model p2r for others"
        )
    if options.include_images and mode != "p2r":
        raise _refused(
            "p2r.include_images", f"mode {mode} looks at the plain picture: there is nothing to send"
        )
    return mode


def _settings(settings: Settings, options: Options, config: ServingConfig, system: list[str]) -> Settings:
    budget, geometry, prompts = settings.budget, settings.geometry, settings.prompts
    for name in ("overview_max_pixels", "crop_max_pixels"):
        wanted, most = getattr(options, name), getattr(budget, name)
        if wanted is not None:
            if not budget.min_pixels <= wanted <= most:
                raise _refused(f"p2r.{name}", f"it must be within {budget.min_pixels:,}–{most:,} here")
            budget = replace(budget, **{name: wanted})
    if options.max_evidence is not None:
        if options.max_evidence > config.max_evidence:
            raise _refused("p2r.max_evidence", f"it must be within 1–{config.max_evidence} here")
        geometry = replace(geometry, max_crops=options.max_evidence)
    # The server's own is a template; a client's '$' means itself.
    texts = (prompts.system, *(text.replace("$", "$$") for text in system))
    prompts = replace(prompts, system="\n\n".join(text for text in texts if text.strip()))
    return replace(settings, budget=budget, geometry=geometry, prompts=prompts)
