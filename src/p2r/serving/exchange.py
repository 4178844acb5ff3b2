"""One request from its first byte to its last: let in, read, answered, or told why not."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from p2r.errors import InputError, ModelError
from p2r.evidence import evidence_pixels
from p2r.pipeline import P2R, Finished, Perceived
from p2r.serving.body import read_request
from p2r.serving.errors import RequestFailed, from_model_error, unexpected
from p2r.serving.events import watched
from p2r.serving.limiter import done_before, ending
from p2r.serving.memory import HeldMemory, in_json_thread
from p2r.serving.replies import outcome_of
from p2r.serving.request import understand
from p2r.serving.streaming import stream_reply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.types import Receive, Scope, Send

    from p2r.images.limits import MemoryBudget
    from p2r.pipeline import OpenedImage
    from p2r.serving.config import ServingConfig
    from p2r.serving.fetching import ImageFetcher
    from p2r.serving.limiter import Admission, Slot
    from p2r.serving.metrics import Metrics
    from p2r.serving.page.store import Store
    from p2r.serving.replies import Outcome
    from p2r.serving.request import Asked
    from p2r.serving.schema import AskRequest
    from p2r.serving.streaming import Events
    from p2r.settings import Settings
    from p2r.types import Box, Evidence, Prediction, Question

log = logging.getLogger("p2r.serving")

GONE = 499  # what logs and metrics call a client that left
# Of evidence: three of colors, the rest encoded and as the text of a model call. Noise has more.
_BYTES_PER_PIXEL = 8


@dataclass(frozen=True)
class Service:
    """What all requests share."""

    p2r: P2R
    config: ServingConfig
    admission: Admission
    memory: MemoryBudget
    metrics: Metrics
    fetcher: ImageFetcher
    uploads: Store


@dataclass(frozen=True)
class Endpoint:
    """One of the protocols in which a question is asked.

    Attributes:
        request: what is read.
        prefix: of the names of its replies.
        reply: the whole reply, as JSON data.
        events: what makes the events of a reply that is streamed.
    """

    request: type[AskRequest]
    prefix: str
    reply: Callable[[Outcome], dict[str, Any]]
    events: Callable[[Asked, str], Events]


class _Gone(Exception):  # noqa: N818  (nobody is told)
    """The client hung up."""


class _BoundedP2R(P2R):
    """The pipeline of one request, which cuts its evidence when there is memory for it."""

    def __init__(self, shared: P2R, settings: Settings, slot: Slot) -> None:
        super().__init__(shared.perceiver, reasoner=shared.reasoner, settings=settings)
        self._slot = slot

    async def cut_evidence(
        self, image: OpenedImage, boxes: Sequence[Box], settings: Settings | None = None
    ) -> Evidence:
        """See `P2R`."""
        pixels = evidence_pixels(image.source.size, boxes, settings or self.settings)
        await self._slot.hold(_BYTES_PER_PIXEL * pixels)
        return await super().cut_evidence(image, boxes, settings)


class Exchange(Response):
    """Answers one request. It speaks ASGI itself: what is sent depends on what happens, and when."""

    def __init__(self, service: Service, endpoint: Endpoint) -> None:
        super().__init__()
        self._service = service
        self._endpoint = endpoint
        self._started = False
        self._events: Events | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        request = Request(scope, receive)
        begin_s = time.perf_counter()
        status = 200
        try:
            await self._within_deadline(request, send)
        except (_Gone, ClientDisconnect):
            status = GONE
        except RequestFailed as failed:
            status = failed.status
            await self._send_failure(failed, request, send)
        except asyncio.CancelledError:
            # The server is being ended by force.
            status = 503
            await asyncio.shield(self._send_failure(ending(), request, send))
            raise
        except Exception as error:  # noqa: BLE001 - a fault of ours is told like any other
            broken = unexpected(error)
            status = broken.status
            await self._send_failure(broken, request, send)
        finally:
            self._service.metrics.replied(status)
            name, seconds = scope["state"]["request_id"], time.perf_counter() - begin_s
            log.info("chat %s: status %d in %.3f s", name, status, seconds)

    async def _within_deadline(self, request: Request, send: Send) -> None:
        service, config = self._service, self._service.config
        deadline_s = asyncio.get_running_loop().time() + config.timeout_s
        try:
            with service.admission.admitted(), HeldMemory(service.memory) as held:
                async with asyncio.timeout_at(deadline_s):
                    asked = await read_request(
                        request, config, held, self._endpoint.request, self._understood
                    )
                    ended = service.admission.ended
                    # To answer ends when the client hangs up, when time is up, and when the server ends.
                    work = self._answer(asked, held, request, send)
                    if not await done_before(work, _gone(request), ended.wait()):
                        raise ending() if ended.is_set() else _Gone
        except TimeoutError:
            raise RequestFailed(
                504, f"there was no answer within {config.timeout_s:g} s", code="deadline"
            ) from None

    def _understood(self, request: AskRequest) -> Asked:
        config = self._service.config
        return understand(request, self._service.p2r.settings, config).decoded(config, self._service.uploads)

    async def _answer(self, asked: Asked, held: HeldMemory, request: Request, send: Send) -> None:
        service = self._service
        name = f"{self._endpoint.prefix}{request.scope['state']['request_id']}"
        question = await asked.question(service.fetcher, service.config, held, name)
        async with service.admission.turn() as slot:
            p2r = _BoundedP2R(service.p2r, asked.settings, slot)
            try:
                if asked.stream:
                    await self._stream(p2r, asked, question, held, slot, send)
                else:
                    reply = await self._whole(p2r, asked, question)
                    held.resize(held.nbytes + len(reply.body))
                    slot.release()
                    self._started = True
                    await reply(request.scope, request.receive, send)
            except ModelError as error:
                raise from_model_error(error, f"chat {name}") from None
            except InputError as error:
                raise asked.unusable_image(error) from None

    async def _whole(self, p2r: P2R, asked: Asked, question: Question) -> Response:
        evidence = None
        happens = watched(p2r, question, asked.mode, asked.boxes, reads_text=False)
        async with aclosing(happens) as happening:
            async for heard in happening:
                if isinstance(heard, Perceived):
                    evidence = heard.evidence if asked.options.include_images else None
                elif isinstance(heard, Finished):
                    prediction = heard.prediction
        self._predicted(asked, prediction)
        outcome = await outcome_of(asked, question, prediction, evidence)
        return await in_json_thread(lambda: JSONResponse(self._endpoint.reply(outcome)))

    async def _stream(
        self, p2r: P2R, asked: Asked, question: Question, held: HeldMemory, slot: Slot, send: Send
    ) -> None:
        self._events = self._endpoint.events(asked, question.id)
        async with aclosing(stream_reply(p2r, asked, question, self._events, held, slot)) as items:
            async for item in items:
                if not isinstance(item, bytes):
                    self._predicted(asked, item)
                    continue
                if not self._started:
                    self._started = True
                    await send(_STREAM_HEAD)
                await send({"type": "http.response.body", "body": item, "more_body": True})
                del item
        await send({"type": "http.response.body", "body": b""})

    def _predicted(self, asked: Asked, prediction: Prediction) -> None:
        self._service.metrics.predicted(prediction)
        outcome = prediction.perception.outcome if prediction.perception else "none"
        log.info("chat %s: %s, %s, %s", prediction.id, asked.model, prediction.status, outcome)

    async def _send_failure(self, failed: RequestFailed, request: Request, send: Send) -> None:
        if not self._started:
            await failed.response()(request.scope, request.receive, send)
            return
        # The status has gone out; clients of the protocol know an event with an error.
        told = self._events.failed(failed) if self._events else b""
        await send({"type": "http.response.body", "body": told, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


_STREAM_HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),  # nginx would keep the events back
    ],
}


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
