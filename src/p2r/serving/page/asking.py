"""A question that is asked on the page: let in as any other, answered twice, and shown as it happens."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import secrets
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2r.errors import InputError, ModelError
from p2r.figure import figure
from p2r.images.abandoning import in_image_thread
from p2r.parsing.options import split_options, without_mark
from p2r.record import prediction_record
from p2r.serving.admission import done_before, ending
from p2r.serving.failures import RequestFailed, from_model_error
from p2r.serving.page import markup
from p2r.serving.page.shelf import Shelf
from p2r.serving.watching import Thinking, watched
from p2r.types import Question

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from p2r.images import ImageSource
    from p2r.serving.exchange import Service
    from p2r.serving.page.gallery import Gallery
    from p2r.types import Mode, Prediction

    # Which parts of the page change, and what they show then.
    Changes = dict[str, str]
    Tell = Callable[[Changes], None]

log = logging.getLogger("p2r.serving")

PARTS = ("status", "evidence", "looked", "one_pass", "links")
TITLES: dict[str, str] = {"looked": "Look, then think", "one_pass": "In one pass, for comparison"}
TICK_S = 1.0
RESULTS_BYTES = 128 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Result:
    """What can be taken home: the figure as PNG, and everything as JSON."""

    figure: bytes
    record: bytes


class Asking:
    """Answers the questions of the page.

    Args:
        service: what the protocol's requests share: one queue, one deadline, one set of counters for both.
        gallery: where the pictures are.
    """

    def __init__(self, service: Service, gallery: Gallery) -> None:
        self._service = service
        self._gallery = gallery
        self.results: Shelf[Result] = Shelf(RESULTS_BYTES)

    async def ask(self, picture: str, text: str, choices: str, *, compare: bool) -> AsyncGenerator[Changes]:
        """Answer one question and yield the parts of the page that change, as they do.

        Args:
            picture: the name of one in the gallery.
            text: the question; options may stand in it, lettered.
            choices: options, one a line.
            compare: ask in one pass too.
        """
        name = f"page-{secrets.token_hex(8)}"
        begin_s = time.perf_counter()
        heard: asyncio.Queue[Changes | None] = asyncio.Queue()
        yield dict.fromkeys(PARTS, "") | {"status": markup.status("Waiting for its turn …", busy=True)}
        work = asyncio.create_task(
            self._unless_ended(name, picture, text, choices, compare=compare, tell=heard.put_nowait)
        )
        work.add_done_callback(lambda _: heard.put_nowait(None))
        outcome = "gone"
        try:
            doing = "Waiting for its turn"
            while True:
                try:
                    # A tick also makes Gradio notice that the reader left.
                    async with asyncio.timeout(TICK_S):
                        changes = await heard.get()
                except TimeoutError:
                    seconds = time.perf_counter() - begin_s
                    yield {"status": markup.status(f"{doing} … {seconds:.0f} s", busy=True)}
                    continue
                if changes is None:
                    break
                if "doing" in changes:
                    doing = changes.pop("doing")
                    changes["status"] = markup.status(f"{doing} …", busy=True)
                yield changes
            await work
            outcome = "answered"
        except (InputError, ModelError, RequestFailed, TimeoutError) as error:
            outcome = type(error).__name__
            yield {"status": markup.problem(self._told(name, error))}
        finally:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            log.info("%s: %s in %.3f s", name, outcome, time.perf_counter() - begin_s)

    def _told(self, name: str, error: Exception) -> str:
        if isinstance(error, ModelError):
            return f"No answer: {from_model_error(error, name).message}. The server's log says more."
        if isinstance(error, TimeoutError):
            return f"No answer: there was none within {self._service.config.timeout_s:g} s."
        return f"Not asked: {error}"

    async def _unless_ended(self, *asked: str, compare: bool, tell: Tell) -> None:
        ended = self._service.admission.ended
        if not await done_before(self._let_in(*asked, compare=compare, tell=tell), ended.wait()):
            raise ending()

    async def _let_in(
        self, name: str, picture: str, text: str, choices: str, *, compare: bool, tell: Tell
    ) -> None:
        service = self._service
        with service.admission.admitted():
            async with asyncio.timeout(service.config.timeout_s):
                source = await self._picture(picture)
                question = _question(source, text, choices, name, service.config.max_text_chars)
                async with service.admission.turn():
                    await self._answer(question, source, compare=compare, tell=tell)

    async def _picture(self, name: str) -> ImageSource:
        if not name:
            raise InputError("there is no picture: drop one, paste one, or take an example")
        source = await in_image_thread(self._gallery.open, name)
        if source is None:
            raise InputError("the picture is not here any more: give it again")
        return source

    async def _answer(self, question: Question, source: ImageSource, *, compare: bool, tell: Tell) -> None:
        """One mode after the other, so that the seconds of each are those of one question."""
        begin_s = time.perf_counter()
        tell({"looked": markup.waiting(TITLES["looked"]), "doing": "Looking at the picture"})
        looked = await self._watched(question, source, "p2r", "looked", tell)
        one_pass = None
        if compare:
            tell({"one_pass": markup.waiting(TITLES["one_pass"]), "doing": "Asking in one pass"})
            one_pass = await self._watched(question, source, "think", "one_pass", tell)
        seconds = time.perf_counter() - begin_s
        tell({"doing": "Answered; drawing the figure"})
        result = await in_image_thread(_result, question, source, looked, one_pass)
        name = self.results.put(result, len(result.figure) + len(result.record))
        tell({"links": markup.links(name), "status": markup.status(f"Answered in {seconds:.1f} s.")})

    async def _watched(
        self, question: Question, source: ImageSource, mode: Mode, part: str, tell: Tell
    ) -> Prediction:
        service, title = self._service, TITLES[part]
        thinking, thought, prediction = Thinking(), "", None
        try:
            async with aclosing(watched(service.p2r, question, mode)) as happening:
                async for heard in happening:
                    if isinstance(heard, str):
                        if new := thinking.more(heard):
                            thought += new
                            tell({part: markup.thinking(title, thought)})
                    elif isinstance(heard, tuple):
                        tell({"doing": "Thinking about what it saw"})
                        tell({"evidence": await in_image_thread(markup.evidence, source, *heard)})
                    elif heard is not None:
                        prediction = heard
                        tell({part: markup.answered(title, question, prediction)})
        finally:
            if prediction is None:
                tell({part: ""})
        assert prediction is not None  # noqa: S101 - `watched` ends with it, or raises
        service.metrics.predicted(prediction)
        return prediction


def _question(source: ImageSource, text: str, choices: str, name: str, most: int) -> Question:
    if len(text) + len(choices) > most:
        raise InputError(f"there are more than {most:,} characters of text")
    options = tuple(without_mark(line) for line in choices.splitlines() if line.strip())
    if not options:
        text, options = split_options(text)
    return Question(source, text, options, id=name)


def _result(
    question: Question, source: ImageSource, looked: Prediction, one_pass: Prediction | None
) -> Result:
    file = io.BytesIO()
    figure(source, looked, question).save(file, "PNG")
    record = {
        "question": question.text,
        "choices": list(question.choices),
        "picture": {"width": source.width, "height": source.height},
        "p2r": prediction_record(looked),
        "think": prediction_record(one_pass) if one_pass else None,
    }
    return Result(file.getvalue(), json.dumps(record, ensure_ascii=False, indent=2).encode())
