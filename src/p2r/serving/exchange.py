"""One request from its first byte to its last: accept, read, answer, or reply with an error."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from p2r.errors import InputError, ModelError
from p2r.evidence import evidence_pixels
from p2r.images.threads import in_image_thread
from p2r.pipeline import P2R, Finished, Perceived, TextDelta
from p2r.serving.errors import APIError, internal_error, model_error, shutting_down
from p2r.serving.http import HeldMemory, in_json_thread, read_json
from p2r.serving.limiter import done_before
from p2r.serving.request import parse_request
from p2r.serving.response import ThinkingFilter, images_of, outcome_of, perception_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

    from starlette.types import Receive, Scope, Send

    from p2r.images.limits import MemoryBudget
    from p2r.pipeline import Event, OpenedImage
    from p2r.serving.config import ServingConfig
    from p2r.serving.fetching import ImageFetcher
    from p2r.serving.limiter import Limiter
    from p2r.serving.metrics import Metrics
    from p2r.serving.page.store import Store
    from p2r.serving.request import ParsedRequest
    from p2r.serving.response import ChatWriter, Outcome
    from p2r.serving.responses import ResponsesWriter
    from p2r.serving.schema import AskRequest
    from p2r.settings import Settings
    from p2r.types import Box, Evidence, Question

log = logging.getLogger("p2r.serving")

GONE = 499  # of logs and metrics: the client left
HEARTBEAT_S = 15.0
_HEARTBEAT = b": still working\n\n"
# Of evidence: three of colors, the rest encoded and as the text of a model call. Noise takes more.
_BYTES_PER_PIXEL = 8
_STREAM_HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),  # nginx buffers events otherwise
    ],
}


class ServedP2R(P2R):
    """The pipeline of a server: evidence is cut when the limiter has memory for it."""

    def __init__(self, p2r: P2R, limiter: Limiter) -> None:
        super().__init__(p2r.perceiver, reasoner=p2r.reasoner, settings=p2r.settings, limits=p2r.limits)
        self._limiter = limiter

    async def open_images(
        self, question: Question, settings: Settings | None = None, *, apart: bool = False
    ) -> tuple[OpenedImage, ...]:
        """See `P2R`. The memory of several images is reserved at once, with their evidence."""
        if (count := len(question.images)) > 1:
            chosen = settings or self.settings
            budget, crops = chosen.budget, chosen.geometry.max_crops
            pixels = 2 * count * budget.overview_max_pixels + crops * budget.crop_max_pixels
            await self._limiter.reserve(_BYTES_PER_PIXEL * pixels)
        return await super().open_images(question, settings, apart=apart)

    async def cut_evidence(
        self, images: Sequence[OpenedImage], boxes: Sequence[Box], settings: Settings | None = None
    ) -> Evidence:
        """See `P2R`."""
        if len(images) == 1:
            sizes = [image.source.size for image in images]
            pixels = evidence_pixels(sizes, boxes, settings or self.settings)
            await self._limiter.reserve(_BYTES_PER_PIXEL * pixels)
        return await super().cut_evidence(images, boxes, settings)


@dataclass(frozen=True)
class Service:
    """What all requests share."""

    p2r: P2R
    config: ServingConfig
    limiter: Limiter
    memory: MemoryBudget
    metrics: Metrics
    fetcher: ImageFetcher
    uploads: Store


class _Gone(Exception):  # noqa: N818  (not an error)
    """The client left."""


class Exchange(Response):
    """Answers one request. It is an ASGI application, because the status depends on the events."""

    def __init__(self, service: Service, writer_type: type[ChatWriter] | type[ResponsesWriter]) -> None:
        super().__init__()
        self._service = service
        self._writer_type = writer_type
        self._started = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        self._request, self._send = Request(scope, receive), send
        self._id = f"{self._writer_type.prefix}{scope['state']['request_id']}"
        status, start_s = 200, time.perf_counter()
        try:
            await self._within_deadline()
        except (_Gone, ClientDisconnect):
            status = GONE
        except asyncio.CancelledError:
            # The server is ended by force.
            status = 503
            await asyncio.shield(self._fail(shutting_down()))
            raise
        except Exception as error:  # noqa: BLE001 - replied as an internal error, and logged
            failure = error if isinstance(error, APIError) else internal_error(error)
            status = failure.status
            await self._fail(failure)
        finally:
            self._service.metrics.count_reply(status)
            log.info("chat %s: status %d in %.3f s", self._id, status, time.perf_counter() - start_s)

    async def _within_deadline(self) -> None:
        service, config = self._service, self._service.config
        try:
            with service.limiter.accept(), HeldMemory(service.memory) as self._held:
                async with asyncio.timeout(config.timeout_s):
                    kind = self._writer_type.request_type
                    parsed = await read_json(self._request, config, self._held, kind, self._parse)
                    ended = service.limiter.ended
                    if not await done_before(self._answer(parsed), self._gone(), ended.wait()):
                        raise shutting_down() if ended.is_set() else _Gone
        except TimeoutError:
            message = f"there was no answer within {config.timeout_s:g} s"
            raise APIError(504, message, code="deadline") from None

    def _parse(self, request: AskRequest) -> ParsedRequest:
        service = self._service
        parsed = parse_request(request, service.p2r.settings, service.config)
        for image in parsed.images:
            image.load(service.config, service.uploads)
        return parsed

    async def _gone(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass

    async def _answer(self, parsed: ParsedRequest) -> None:
        service = self._service
        question = await parsed.question(service.fetcher, service.config, self._held, self._id)
        self._writer = self._writer_type(parsed, self._id)
        async with service.limiter.slot() as slot:
            events = service.p2r.stream(
                question, parsed.mode, boxes=parsed.boxes, settings=parsed.settings, deltas=parsed.stream
            )
            try:
                async with aclosing(_buffered(events, slot.close)) as buffered:
                    await self._reply(parsed, question, buffered)
            except ModelError as error:
                raise model_error(error, f"chat {self._id}") from None
            except InputError as error:
                raise parsed.images[0].invalid(error) from None

    async def _reply(
        self, parsed: ParsedRequest, question: Question, events: AsyncGenerator[Event | None]
    ) -> None:
        writer, thinking = self._writer, ThinkingFilter()
        if parsed.stream:
            await self._send_events(writer.start())
        outcome = await self._outcome(parsed, question, events, thinking)
        if parsed.stream:
            # The whole text decides, where the pieces were read otherwise.
            rest = writer.thinking(thinking.rest(outcome.thinking))
            await self._send_events(rest + writer.end(outcome))
            await self._send({"type": "http.response.body", "body": b""})
        else:
            reply = await in_json_thread(lambda: JSONResponse(writer.whole(outcome)))
            del outcome  # megabytes, while the client reads
            with self._holding(len(reply.body)):
                self._started = True
                await reply(self._request.scope, self._request.receive, self._send)

    async def _outcome(
        self,
        parsed: ParsedRequest,
        question: Question,
        events: AsyncGenerator[Event | None],
        thinking: ThinkingFilter,
    ) -> Outcome:
        """Run the events to their end, and send those of a stream."""
        writer, images = self._writer, None
        async for event in events:
            match event:
                case Perceived():
                    if parsed.options.include_images:
                        images = await in_image_thread(images_of, event.evidence)
                    extension = perception_of(event, images)
                    if parsed.stream:
                        data = await in_json_thread(writer.perceived, extension)
                        del event, extension  # megabytes, while the client reads
                        with self._holding(len(data)):
                            await self._send_events(data)
                case TextDelta(text) if parsed.stream:
                    await self._send_events(writer.thinking(thinking.push(text)))
                case None if parsed.stream:
                    await self._send_events(_HEARTBEAT)
                case Finished(prediction):
                    pass
        self._service.metrics.count_prediction(prediction)
        perception = prediction.perception.outcome if prediction.perception else "none"
        log.info("chat %s: %s, %s, %s", self._id, parsed.model, prediction.status, perception)
        return outcome_of(parsed, question, prediction, images)

    @contextmanager
    def _holding(self, nbytes: int) -> Iterator[None]:
        """While a part of the reply is sent, it counts as held memory."""
        before = self._held.nbytes
        self._held.resize(before + nbytes)
        yield
        self._held.resize(before)

    async def _send_events(self, data: bytes) -> None:
        if data and not self._started:
            self._started = True
            await self._send(_STREAM_HEAD)
        if data:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def _fail(self, error: APIError) -> None:
        if not self._started:
            await error.response()(self._request.scope, self._request.receive, self._send)
            return
        # The status was sent already; clients of the protocol expect an event with an error.
        await self._send_events(self._writer.failed(error))
        await self._send({"type": "http.response.body", "body": b""})


async def _buffered(
    events: AsyncGenerator[Event], on_end: Callable[[], None]
) -> AsyncGenerator[Event | None]:
    """The events as they come, and None after each `HEARTBEAT_S` of silence.

    The work does not wait for the consumer of the events; `on_end` is called at its end. Closing cancels it.
    """
    queue: asyncio.Queue[Event | None] = asyncio.Queue()

    async def work() -> None:
        async with aclosing(events):
            async for event in events:
                queue.put_nowait(event)

    def ended(_: object) -> None:
        on_end()
        queue.put_nowait(None)

    task = asyncio.create_task(work())
    task.add_done_callback(ended)
    try:
        while True:
            event = None
            # Not `wait_for`: on Python 3.11 it can lose a cancellation.
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    event = await queue.get()
            if event is None and task.done() and queue.empty():
                break
            yield event
            del event
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
