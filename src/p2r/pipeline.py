"""The method: look at the whole image, zoom into the evidence, reason about it (paper, method section).

`P2R` is written for one question, so that it reads like the paper; any number of questions may be on their
way at once, and batching or pooling them is the models' business. There is no barrier between the stages:
one question is perceived while another is reasoned about and the image of a third is decoded in a thread.

    with P2R("Qwen/Qwen3-VL-4B-Instruct") as p2r:
        print(p2r.answer("street.jpg", "What is the number of the bus?").answer)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from p2r._sync import SyncRunner
from p2r.errors import InputError, ModelError
from p2r.evidence import build_evidence, plain_overview
from p2r.images import ImageSource, Limits
from p2r.images.threads import in_image_thread
from p2r.models import DEFAULT_MODEL
from p2r.models.base import Sampling
from p2r.parsing.answers import read_answer
from p2r.parsing.perception import parse_perception
from p2r.parsing.thinking import split_thinking
from p2r.progress import Progress, complete
from p2r.prompts import direct_messages, perceive_messages, reason_messages
from p2r.settings import Settings
from p2r.types import Evidence, Question

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from p2r.images import EncodedImage, ImageInput
    from p2r.models.base import Completion, Model
    from p2r.progress import Observer
    from p2r.types import Answer, AnswerType, Box, Mode, Perception, Prediction


@dataclass(frozen=True, slots=True)
class Look:
    """An image that was opened, and what the models see of the whole of it."""

    source: ImageSource
    overview: EncodedImage


class P2R:
    """Answers questions about images.

    The async methods belong to one event loop; the synchronous ones (`answer`, `answer_many`) share a
    private loop and may be called from any thread. Use either kind with one instance, not both.

    Args:
        model: the perceiver, and the reasoner too unless one is given: a spec for
            `p2r.models.open_model`, or a model. What is opened here is closed here; a model that was
            passed in is its owner's to close.
        reasoner: another model for the second stage.
        settings: prompts, geometry, budgets and the options of the models that are opened here; None for
            those that come with `model`, or the defaults.
        limits: what an image may have at most; None for the defaults.
        concurrency: how many questions `answer_many` keeps on their way.

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

    # One question, stage by stage.

    async def look(self, question: Question) -> Look:
        """Open the image and see the whole of it at its budget.

        Raises:
            InputError: the image cannot be read or is over a limit.
        """
        return await in_image_thread(self._look, question)

    def _look(self, question: Question) -> Look:
        source = ImageSource.open(question.image, self.limits)
        return Look(source, plain_overview(source, self.settings))

    async def perceive(self, question: Question, look: Look | None = None) -> Perception:
        """Ask the perceiver where the evidence is.

        Raises:
            InputError, ModelError: the image cannot be read; the call failed.
        """
        look = look or await self.look(question)
        completion = await self._perceive(question, look)
        return parse_perception(completion.text, self.settings.box_format, look.overview.size)

    async def _perceive(self, question: Question, look: Look) -> Completion:
        settings = self.settings
        messages = perceive_messages(settings.prompts, question, look.overview, settings.box_format)
        return await self.perceiver.complete(messages, Sampling(settings.max_tokens.perceive))

    async def gather(self, look: Look, boxes: Sequence[Box]) -> Evidence:
        """Cut the evidence at full resolution and draw the boxes; without boxes, the plain overview."""
        return await in_image_thread(build_evidence, look.source, boxes, self.settings, look.overview)

    async def reason(self, question: Question, boxes: Sequence[Box], look: Look | None = None) -> Answer:
        """Ask the reasoner, which sees the evidence in `boxes`; none means the plain image.

        Raises:
            InputError, ModelError: the image cannot be read; the call failed.
        """
        evidence = await self.gather(look or await self.look(question), boxes)
        messages = reason_messages(self.settings.prompts, question, evidence)
        completion = await self.reasoner.complete(messages, Sampling(self.settings.max_tokens.reason))
        return read_answer(completion.text, question)

    # One question, whole.

    async def predict(
        self,
        question: Question,
        mode: Mode = "p2r",
        boxes: Sequence[Box] | None = None,
        observer: Observer | None = None,
    ) -> Prediction:
        """Answer one question.

        Args:
            question: what is asked.
            mode: `p2r`; or one pass over the plain image: `think`, or `direct` for the bare answer.
            boxes: evidence that is known already (mode `p2r`); the perceiver is not asked then.
            observer: is told what happens as it happens.

        Raises:
            InputError: the mode, the boxes or the image cannot be used.
            ModelError: a model call failed.
        """
        run = Progress(question, mode, boxes, observer, self.settings.digest)
        await self._run(run)
        return self._signed(run.known)

    async def attempt(
        self,
        question: Question,
        mode: Mode = "p2r",
        boxes: Sequence[Box] | None = None,
        observer: Observer | None = None,
    ) -> Prediction:
        """Like `predict`, but an image that cannot be read and a call that fails give status `failed`.

        What was known before the failure (perception, boxes, seconds, tokens) is kept; an answer never is.

        Raises:
            InputError: the mode or the boxes cannot be used.
        """
        run = Progress(question, mode, boxes, observer, self.settings.digest)
        try:
            await self._run(run)
        except (InputError, ModelError) as error:
            run.learn(status="failed", error=str(error))
        return self._signed(run.known)

    def _signed(self, prediction: Prediction) -> Prediction:
        # Only now, because an endpoint may learn its model's name from the server.
        return replace(prediction, model=self.perceiver.name, reasoner=self.reasoner.name)

    async def _run(self, run: Progress) -> None:
        question, mode, prompts = run.question, run.known.mode, self.settings.prompts
        with run.timed("image"):
            look = await self.look(question)
        run.note(*look.source.notes)
        if mode == "direct":
            messages = direct_messages(prompts, question, look.overview)
        else:
            evidence = await self._evidence(run, look) if mode == "p2r" else Evidence(look.overview)
            messages = reason_messages(prompts, question, evidence)
        limits = self.settings.max_tokens
        sampling = Sampling(limits.direct if mode == "direct" else limits.reason)
        with run.timed("reason"):
            on_text = run.observer.on_text if run.observer else None
            completion = await complete(self.reasoner, messages, sampling, on_text)
        answer = read_answer(completion.text, question, bare=mode == "direct")
        run.spent(completion)
        run.note(*([answer.reason] if answer.reason else []), *_limit_note("the reply", completion, sampling))
        run.learn(
            status="no_answer" if answer.value is None else "answered",
            answer=answer.value,
            thinking=answer.thinking,
            text=completion.text,
            truncated=completion.finish_reason == "length",
        )

    async def _evidence(self, run: Progress, look: Look) -> Evidence:
        perception, boxes = None, run.boxes
        if boxes is None:
            with run.timed("perceive"):
                completion = await self._perceive(run.question, look)
            run.spent(completion)
            perception = parse_perception(completion.text, self.settings.box_format, look.overview.size)
            boxes = perception.boxes
            limit = Sampling(self.settings.max_tokens.perceive)
            run.note(*_limit_note("the perceiver's reply", completion, limit))
            run.note(*([perception.warning] if perception.warning else []))
        run.learn(perception=perception, boxes=tuple(boxes))
        with run.timed("evidence"):
            evidence = await self.gather(look, boxes)
        crops_px = tuple(crop.region_px for crop in evidence.crops)
        run.learn(crops_px=crops_px)
        run.note(*evidence.notes)
        if run.observer and perception:
            run.observer.on_perception(perception, evidence)
        return evidence

    # The synchronous face.

    def answer(
        self,
        image: ImageInput,
        text: str,
        choices: Sequence[str] = (),
        answer_type: AnswerType | None = None,
        mode: Mode = "p2r",
    ) -> Prediction:
        """Answer one question, from a script or a notebook.

        Raises:
            InputError: the question or the image cannot be used.
            ModelError: a model call failed.
        """
        question = Question(image, text, tuple(choices), answer_type or "free")
        return self._sync.run(self.predict, question, mode)

    def answer_many(self, questions: Iterable[Question], mode: Mode = "p2r") -> Iterator[Prediction]:
        """Answer many questions, yielding predictions in order as they are ready.

        At most `concurrency` questions are on their way, and at most four times as many are drawn ahead of
        the one that is waited for, so that an endless iterable is fine. A failed call or an unreadable
        image gives status `failed`; see `attempt`.
        """
        return self._sync.map(
            lambda question: self.attempt(question, mode), questions, concurrency=self.concurrency
        )

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


def _limit_note(what: str, completion: Completion, sampling: Sampling) -> tuple[str, ...]:
    """What to set when a reply was cut at its token limit."""
    if completion.finish_reason != "length":
        return ()
    cut = f"{what} was cut at its limit of {completion.completion_tokens or sampling.max_tokens} tokens"
    ways = "add ,thinking=off or ,thinking_tokens=4096 to the model's name (docs/models.md)"
    if split_thinking(completion.text).after is None:
        return (f"{cut} while the model was still thinking: {ways}",)
    return (f"{cut}: raise max_tokens in the settings; or, if the model thinks, {ways}",)


def settings_of(model: str | Model) -> Settings:
    """The settings that come with a model (`p2r.json` in its folder), or the defaults.

    Raises:
        InputError: the model's `p2r.json` cannot be used.
    """
    if not isinstance(model, str):
        return getattr(model, "settings", None) or Settings()
    from p2r.models.loading import settings_for

    return settings_for(model) or Settings()
