"""The method: see the whole image, cut out the evidence, reason about it (paper, method section).

`P2R` is written for one question, so that it reads like the paper. Any number of questions may run at once;
batching and pooling them is the models' business. The stages of different questions overlap: one question is
perceived while another is reasoned about and the image of a third is decoded in a thread.

    with P2R("Qwen/Qwen3-VL-4B-Instruct") as p2r:
        print(p2r.answer("street.jpg", "What is the number of the bus?").answer)
"""

from __future__ import annotations

import logging
import time
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self

from p2r._sync import SyncRunner
from p2r.errors import InputError, ModelError
from p2r.evidence import build_evidences, plain_overviews
from p2r.images import EncodedImage, ImageSource, Limits, open_images
from p2r.images.threads import in_image_thread
from p2r.looks import look_again, side_by_side
from p2r.models import DEFAULT_MODEL
from p2r.models.base import Completion, Sampling, StreamingModel
from p2r.parsing.answers import read_answer
from p2r.parsing.perception import merged, parse_perception
from p2r.parsing.thinking import split_thinking
from p2r.prompts import direct_messages, perceive_messages, reason_messages
from p2r.settings import Settings
from p2r.types import MODES, Evidence, Perception, Prediction, Question, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence

    from p2r.images import ImageInput
    from p2r.models.base import Message, Model
    from p2r.types import AnswerType, Box, Mode

_LOG = logging.getLogger("p2r.pipeline")


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """An opened image, and its overview as the models see it."""

    source: ImageSource
    overview: EncodedImage


@dataclass(frozen=True, slots=True)
class Perceived:
    """The perceiver has replied, and the evidence is cut. Not sent for given boxes and one-pass modes."""

    perception: Perception
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class TextDelta:
    """More text of the stage that answers; all of it at once where the model cannot stream."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event: the whole prediction."""

    prediction: Prediction


Event = Perceived | TextDelta | Finished


class P2R:
    """Answers questions about images.

    The async methods belong to one event loop; the synchronous ones (`answer`, `answer_many`) share a
    private loop and may be called from any thread. Use either kind with one instance, not both.

    Args:
        model: the perceiver, and the reasoner too unless one is given: a spec for
            `p2r.models.open_model`, or a model. What is opened here is closed here; a model that was
            passed in is closed by its owner.
        reasoner: another model for the second stage.
        settings: prompts, geometry, budgets and the options of the models that are opened here; None for
            those that come with `model`, or the defaults.
        limits: what an image may have at most; None for the defaults.
        concurrency: how many questions `answer_many` works on at once.

    Raises:
        InputError: a spec or a setting that cannot be used.
        ModelError: the model cannot be opened.
    """

    def __init__(
        self,
        model: str | Model = DEFAULT_MODEL,
        *,
        reasoner: str | Model | None = None,
        settings: Settings | None = None,
        limits: Limits | None = None,
        concurrency: int = 32,
    ) -> None:
        if concurrency < 1:
            raise InputError(f"concurrency is {concurrency}: it must be at least 1")
        settings = settings or settings_of(model)
        if reasoner is not None:
            settings_of(reasoner)  # an unknown one is refused before the first model is loaded
        self.limits = limits or Limits()
        self.concurrency = concurrency
        self._opened: list[Model] = []
        self._sync = SyncRunner()
        self.perceiver = self._open(model, settings)
        self.reasoner = self.perceiver
        if reasoner is not None and reasoner != model:
            self.reasoner = self._open(reasoner, settings)
        # A spec, or a model that was passed in, may have options of its own; the digest is of those in use.
        options = getattr(self.perceiver, "options", settings.options)
        self.settings = replace(settings, options=options)

    def _open(self, model: str | Model, settings: Settings) -> Model:
        if not isinstance(model, str):
            return model
        from p2r.models.loading import open_model

        opened = open_model(model, options=settings.options, max_concurrency=self.concurrency)
        self._opened.append(opened)
        return opened

    # One question.

    async def predict(
        self,
        question: Question,
        mode: Mode = "p2r",
        *,
        boxes: Sequence[Box] | None = None,
        settings: Settings | None = None,
        errors: Literal["raise", "return"] = "raise",
    ) -> Prediction:
        """Answer one question.

        Args:
            question: the question and its image.
            mode: `p2r`; or one pass over the plain image: `think`, or `direct` for the bare answer.
            boxes: the evidence, for a reasoner without a perceiver (mode `p2r`).
            settings: for this question, instead of the pipeline's own; `options` stay those of the models.
            errors: with `return`, an unreadable image and a failed call give a prediction of status
                `failed`. It keeps what was found before the failure (perception, boxes, seconds, tokens),
                but no answer.

        Raises:
            InputError: the mode, the boxes or the image cannot be used.
            ModelError: a model call failed.
        """
        builder = self._builder(question, mode, boxes, settings)
        try:
            async for _ in self._run(builder, boxes, stream=False):
                pass
        except (InputError, ModelError) as error:
            if errors == "raise":
                raise
            builder.set(status="failed", error=str(error))
        return self._signed(builder.prediction)

    def stream(
        self,
        question: Question,
        mode: Mode = "p2r",
        *,
        boxes: Sequence[Box] | None = None,
        settings: Settings | None = None,
        deltas: bool = True,
    ) -> AsyncGenerator[Event]:
        """Answer one question and yield what happens: `Perceived`, `TextDelta`, …, `Finished`.

        Closing the iterator cancels the work. With `deltas=False` the model is not asked to stream, and its
        text comes as one `TextDelta`. For the other arguments and the errors see `predict`.
        """
        return self._run(self._builder(question, mode, boxes, settings), boxes, stream=deltas)

    def _builder(
        self, question: Question, mode: Mode, boxes: Sequence[Box] | None, settings: Settings | None
    ) -> PredictionBuilder:
        if mode not in MODES:
            raise InputError(f"unknown mode {mode!r}: {', '.join(MODES)}")
        if boxes is not None and mode != "p2r":
            raise InputError(f"mode {mode} uses the plain image: boxes go with mode p2r only")
        if settings is not None:
            settings = replace(settings, options=self.settings.options)
        return PredictionBuilder(question, mode, settings or self.settings)

    async def _run(
        self, builder: PredictionBuilder, boxes: Sequence[Box] | None, *, stream: bool
    ) -> AsyncGenerator[Event]:
        question, mode, settings = builder.question, builder.prediction.mode, builder.settings
        apart = mode == "p2r" and settings.perceive_images == "apart"
        with builder.timed("image"):
            images = await self.open_images(question, settings, apart=apart)
        if len(images) != len(question.images):  # a document has pages
            builder.question = question = replace(question, image=[image.source for image in images])
        builder.note(*(note for image in images for note in image.source.notes))

        overview, *others = (image.overview for image in images)
        evidence = Evidence(overview, others=tuple(others), shown=tuple(range(len(images))))
        perception = None
        if mode == "p2r":
            if boxes is None:
                perception = await self._perceive(builder, images, apart=apart)
                boxes = perception.boxes
            builder.set(perception=perception, boxes=tuple(boxes))
            with builder.timed("evidence"):
                evidence = await self.cut_evidence(images, boxes, settings)
            builder.set(crops_px=tuple(crop.region_px for crop in evidence.crops))
            builder.note(*evidence.notes)
        if perception:
            yield Perceived(perception, evidence)

        if mode == "direct":
            messages = direct_messages(settings.prompts, question, overview, others)
        else:
            messages = reason_messages(settings.prompts, question, evidence)
        limits = settings.max_tokens
        sampling = Sampling(limits.direct if mode == "direct" else limits.reason)
        with builder.timed("reason"):
            async with aclosing(_reply(self.reasoner, messages, sampling, stream=stream)) as reply:
                async for part in reply:
                    if isinstance(part, Completion):
                        completion = part
                    else:
                        yield TextDelta(part)
        answer = read_answer(completion.text, question, bare=mode == "direct")
        builder.spent(completion)
        builder.note(answer.reason, _limit_note("the reply", completion, sampling))
        builder.set(
            status="no_answer" if answer.value is None else "answered",
            reply=answer,
            truncated=completion.finish_reason == "length",
        )
        yield Finished(self._signed(builder.prediction))

    async def open_images(
        self, question: Question, settings: Settings | None = None, *, apart: bool = False
    ) -> tuple[OpenedImage, ...]:
        """Open the images, of a document each page, and make their overviews.

        Args:
            question: whose images they are.
            settings: None for the pipeline's own.
            apart: each overview is sent alone; else all of them share the model's context.

        Raises:
            InputError: an image cannot be read or is over a limit, or they do not fit into the context.
        """
        chosen = settings or self.settings

        def opened() -> tuple[OpenedImage, ...]:
            sources = open_images(question.images, self.limits)
            groups = [[source] for source in sources] if apart else [sources]
            overviews = [overview for group in groups for overview in plain_overviews(group, chosen)]
            return tuple(map(OpenedImage, sources, overviews))

        return await in_image_thread(opened)

    async def _perceive(
        self, builder: PredictionBuilder, images: Sequence[OpenedImage], *, apart: bool
    ) -> Perception:
        overviews = [image.overview for image in images]
        groups = [[overview] for overview in overviews] if apart else [overviews]
        with builder.timed("perceive"):
            replies = await side_by_side(self._ask_perceiver(builder, group) for group in groups)
            first = merged(replies) if len(groups) > 1 else replies[0]
            if builder.settings.looks == 1:
                return first
            sources = [image.source for image in images]
            found = await look_again(sources, first, builder.settings, partial(self._ask_perceiver, builder))
        builder.set(looks=found.looks, stopped=found.stopped)
        return found.perception

    async def _ask_perceiver(self, builder: PredictionBuilder, shown: Sequence[EncodedImage]) -> Perception:
        settings = builder.settings
        messages = perceive_messages(
            settings.prompts, builder.question, shown[0], settings.box_format, shown[1:]
        )
        sampling = Sampling(settings.max_tokens.perceive)
        completion = await self.perceiver.complete(messages, sampling)
        size, *others = (image.size for image in shown)
        perception = parse_perception(completion.text, settings.box_format, size, others)
        builder.spent(completion)
        builder.note(_limit_note("the perceiver's reply", completion, sampling), perception.format_warning)
        return perception

    async def cut_evidence(
        self, images: Sequence[OpenedImage], boxes: Sequence[Box], settings: Settings | None = None
    ) -> Evidence:
        """Cut the evidence at full resolution and draw the boxes; without boxes, the plain overviews."""
        sources, overviews = zip(*((image.source, image.overview) for image in images), strict=True)
        settings = settings or self.settings
        return (await in_image_thread(build_evidences, sources, [boxes], settings, overviews))[0]

    def _signed(self, prediction: Prediction) -> Prediction:
        # At the end, because an endpoint may learn its model's name from the server.
        return replace(prediction, model=self.perceiver.name, reasoner=self.reasoner.name)

    # The synchronous face.

    def answer(
        self,
        image: ImageInput | Sequence[ImageInput],
        text: str,
        choices: Sequence[str] = (),
        answer_type: AnswerType | None = None,
        mode: Mode = "p2r",
    ) -> Prediction:
        """Answer one question about an image or several, from a script or a notebook.

        Raises:
            InputError: the question or the image cannot be used.
            ModelError: a model call failed.
        """
        question = Question(image, text, tuple(choices), answer_type or "free")
        return self._sync.run(self.predict, question, mode)

    def answer_many(self, questions: Iterable[Question], mode: Mode = "p2r") -> Iterator[Prediction]:
        """Answer many questions, yielding predictions in order as they are ready.

        At most `concurrency` questions are worked on, and at most four times as many are drawn ahead of
        the next prediction, so that an endless iterable is fine. A failed call or an unreadable image gives
        status `failed`, as `predict` does with `errors="return"`. A prediction keeps its question if the
        images are files.
        """

        async def one(question: Question) -> Prediction:
            prediction = await self.predict(question, mode, errors="return")
            return prediction if question.is_light else replace(prediction, question=None)

        return self._sync.map(one, questions, concurrency=self.concurrency)

    # Closing.

    async def aclose(self) -> None:
        """Close the models that were opened here. Safe to call twice."""
        while self._opened:
            await self._opened.pop().aclose()

    def close(self) -> None:
        """Close the models that were opened here and the private loop. Safe to call twice."""
        if self._opened:
            self._sync.run(self.aclose)
        self._sync.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class PredictionBuilder:
    """The prediction of one question as it grows, so that a failure keeps what came before it."""

    def __init__(self, question: Question, mode: Mode, settings: Settings) -> None:
        self.question = question
        self.settings = settings
        self.prediction = Prediction(
            question.id, mode, "no_answer", digest=settings.digest, question=question
        )
        self._start_s = time.perf_counter()

    def set(self, **fields: Any) -> None:
        """Set fields of the prediction."""
        self.prediction = replace(self.prediction, **fields)

    def note(self, *notes: str) -> None:
        """Add notes; empty and repeated ones are left out."""
        self.set(notes=tuple(dict.fromkeys(filter(None, (*self.prediction.notes, *notes)))))

    def spent(self, completion: Completion) -> None:
        """Add the tokens and the notes of one call."""
        _LOG.debug(
            "%s: reply of %d tokens to %d (%s): %s",
            *(self.question.id or "question", completion.completion_tokens, completion.prompt_tokens),
            *(completion.finish_reason, completion.text),
        )
        usage = Usage(completion.prompt_tokens, completion.completion_tokens, calls=1)
        self.set(usage=self.prediction.usage + usage)
        self.note(*completion.notes)

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Measure the seconds of a stage, also of one that fails."""
        start_s = time.perf_counter()
        try:
            yield
        finally:
            now_s = time.perf_counter()
            seconds = {stage: now_s - start_s, "total": now_s - self._start_s}
            self.set(seconds=self.prediction.seconds | seconds)
            _LOG.debug("%s: %s in %.2f s", self.question.id or "question", stage, seconds[stage])


async def _reply(
    model: Model, messages: Sequence[Message], sampling: Sampling, *, stream: bool
) -> AsyncGenerator[str | Completion]:
    """The pieces of a reply as the model writes them, then the completion."""
    if not stream or not isinstance(model, StreamingModel):
        completion = await model.complete(messages, sampling)
        yield completion.text
        yield completion
        return
    async with aclosing(model.stream(messages, sampling)) as pieces:
        async for piece in pieces:
            yield piece
            if isinstance(piece, Completion):
                return
    raise ModelError("the stream ended without a completion", kind="invalid_reply", model=model.name)


def _limit_note(name: str, completion: Completion, sampling: Sampling) -> str:
    """What to set when a reply was cut at its token limit; else empty."""
    if completion.finish_reason != "length":
        return ""
    cut = f"{name} was cut at its limit of {completion.completion_tokens or sampling.max_tokens} tokens"
    thinking = "add ,thinking=off or ,thinking_tokens=4096 to the model's name (docs/models.md)"
    if split_thinking(completion.text).after is None:
        return f"{cut} while the model was still thinking: {thinking}"
    return f"{cut}: raise max_tokens in the settings; or, if the model thinks, {thinking}"


def settings_of(model: str | Model) -> Settings:
    """The settings that come with a model (`p2r.json` in its folder), or the defaults.

    Raises:
        InputError: the model's `p2r.json` cannot be used.
    """
    if not isinstance(model, str):
        return getattr(model, "settings", None) or Settings()
    from p2r.models.loading import settings_for

    return settings_for(model) or Settings()
