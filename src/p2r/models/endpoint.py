"""A model behind any OpenAI-compatible server: vLLM, SGLang, `transformers serve`, a cloud.

The official `openai` client carries the requests. What it leaves to us: what a server does not accept is left
out of later requests (`dialect`), its replies are read wherever it puts their text (`wire`), a reply that is
not what the protocol promises is asked for again like any other failure of the server (`failures`), and every
event loop gets connections of its own, closed when that loop ends.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import json
import logging
import os
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit
from weakref import WeakKeyDictionary

from p2r.errors import InputError, ModelError
from p2r.models.base import Completion
from p2r.models.dialect import STREAMED, Dialect, left_out
from p2r.models.options import ModelOptions
from p2r.models.retries import Failure, is_refusal, read_failure, refusal
from p2r.models.wire import (
    StreamReader,
    read_completion,
    read_context_tokens,
    read_model_names,
    request_body,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence

    from openai import AsyncOpenAI

    from p2r.models.base import Message, Sampling

T = TypeVar("T")

_LOG = logging.getLogger("p2r.models")
_DRAIN_S = 1.0  # after the last event
_SHORTEST_SECRET = 4  # characters: what is shorter is no secret, and part of many words

# What is open on each event loop. A loop closes the generators it started before it ends, but not those that
# the garbage collector finds first: held here, a model that was dropped still closes its connections.
_LIFETIMES: WeakKeyDictionary[asyncio.AbstractEventLoop, set[AsyncGenerator[None]]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class _Line:
    """What one event loop has of the endpoint."""

    client: AsyncOpenAI
    places: asyncio.Semaphore
    naming: asyncio.Lock
    lifetime: AsyncGenerator[None]


class EndpointModel:
    """A model of an OpenAI-compatible server; it also streams.

    Args:
        base_url: up to and including the version, for example `http://127.0.0.1:8000/v1`. A user with a
            password, and a query, are sent with every request, and are shown nowhere.
        model_name: as the server calls it; None asks the server, which must then serve exactly one.
        api_key: by default the environment's P2R_API_KEY, then OPENAI_API_KEY; local servers need none.
        timeout_s: the longest wait for one reply (of a stream: for its next piece).
        deadline_s: the longest time for one call, all retries included.
        max_retries: how often a failed request is sent again (`failures` says which are).
        backoff_s: the pause before the first retry; it doubles each time, to 8 s, and is jittered. A server's
            own Retry-After goes first.
        max_concurrency: requests in flight at a time; more wait here, outside their deadline.
        options: what else is sent, and what this server accepts.

    Raises:
        InputError: the URL is not an http(s) one, or a limit is not positive.
    """

    def __init__(
        self,
        base_url: str,
        model_name: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = 300.0,
        deadline_s: float = 900.0,
        max_retries: int = 3,
        backoff_s: float = 0.5,
        max_concurrency: int = 64,
        options: ModelOptions | None = None,
    ) -> None:
        self.options = options or ModelOptions()
        try:
            url = urlsplit(base_url)
            _ = url.port  # raises if it is no number
        except ValueError:
            url = urlsplit("")
        if not url.hostname or url.scheme not in ("http", "https"):
            raise InputError(f"{base_url!r} is no server: write http://host:port/v1 or https://host/v1")
        if min(timeout_s, deadline_s, max_concurrency) <= 0 or max_retries < 0:
            raise InputError(
                "timeout_s, deadline_s, max_concurrency must be positive, max_retries at least 0"
            )
        user, _, host = url.netloc.rpartition("@")
        self.base_url = f"{url.scheme}://{host}{url.path}".rstrip("/")
        login = unquote(user) if not user or ":" in user else f"{unquote(user)}:"
        self._login = base64.b64encode(login.encode()).decode()
        self._query = dict(parse_qsl(url.query))
        self._model_name = model_name
        self._api_key = api_key or os.environ.get("P2R_API_KEY") or os.environ.get("OPENAI_API_KEY")
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._max_retries = max_retries
        self._backoff_s = backoff_s
        self._max_concurrency = max_concurrency
        secrets = (self._api_key or "", self._login, *login.split(":", 1), *self._query.values())
        self._secrets = [secret for secret in secrets if len(secret) >= _SHORTEST_SECRET]
        self._uses_proxies = not _is_loopback(url.hostname)
        self._dialect = Dialect(self.options)
        self._told_loading = False
        self._lines: WeakKeyDictionary[asyncio.AbstractEventLoop, _Line] = WeakKeyDictionary()

    @property
    def name(self) -> str:
        """The server's name for the model; the URL until it is known."""
        return self._model_name or self.base_url

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Complete one conversation; see `Model.complete`."""
        async with aclosing(self._pieces(messages, sampling, streams=False)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Completion):
                    return piece
        raise AssertionError("unreachable: the last piece is the completion")

    async def stream(
        self, messages: Sequence[Message], sampling: Sampling
    ) -> AsyncGenerator[str | Completion]:
        """Complete one conversation piece by piece; see `StreamingModel.stream`.

        A request is sent again only while the server has not begun to answer. A server that does not stream
        gives its reply as one piece.
        """
        async with aclosing(self._pieces(messages, sampling, streams=True)) as pieces:
            async for piece in pieces:
                yield piece

    async def _pieces(
        self, messages: Sequence[Message], sampling: Sampling, *, streams: bool
    ) -> AsyncGenerator[str | Completion]:
        line = await self._line()
        async with line.places, AsyncExitStack() as stack:
            deadline = self._deadline()
            body = await self._body(line, messages, sampling)
            if streams:
                body |= STREAMED

            async def send(accepted: dict[str, Any]) -> Completion | _Reply:
                async with AsyncExitStack() as attempt:
                    response = await attempt.enter_async_context(
                        line.client.chat.completions.with_streaming_response.create(**_arguments(accepted))
                    )
                    # What the server does counts, not what it was asked: some always stream, some never.
                    content = response.headers.get("content-type", "")
                    if "event-stream" not in content and ("stream" not in accepted or "json" in content):
                        return read_completion(json.loads(await response.read()))
                    reply = _Reply(response.iter_lines())
                    # Here, because a server may refuse or fail in its first event as well.
                    await reply.read()
                    await stack.enter_async_context(attempt.pop_all())
                    return reply

            reply, sent = await self._send(send, body, deadline)
            if isinstance(reply, Completion):
                yield reply.text
                yield replace(reply, notes=left_out(body, sent))
                return
            while reply.more:
                if reply.piece:
                    yield reply.piece
                await self._once(reply.read, deadline)
            owed, completion = await self._once(reply.end, deadline)
            if owed:
                yield owed
            yield replace(completion, notes=left_out(body, sent))

    async def context_tokens(self) -> int | None:
        """The model's context window as the server's list of models says it; None where it does not."""
        line = await self._line()

        def read(data: object) -> int | None:
            names = [self._model_name] if self._model_name else read_model_names(data)
            return read_context_tokens(data, names[0]) if len(names) == 1 else None

        try:
            return await self._listed(line.client, read)
        except ModelError as error:
            if error.kind in ("unreachable", "timeout"):
                raise
            return None  # not every server can list its models

    async def aclose(self) -> None:
        """Close the connections of the running event loop; those of others close as their loops end."""
        loop = asyncio.get_running_loop()
        line = self._lines.pop(loop, None)
        if line is not None:
            await line.lifetime.aclose()
            _LIFETIMES[loop].discard(line.lifetime)

    async def _line(self) -> _Line:
        loop = asyncio.get_running_loop()
        line = self._lines.get(loop)
        if line is None:
            client = self._new_client()
            line = _Line(client, asyncio.Semaphore(self._max_concurrency), asyncio.Lock(), _lifetime(client))
            self._lines[loop] = line
            _LIFETIMES.setdefault(loop, set()).add(line.lifetime)
            await anext(line.lifetime)
        return line

    def _new_client(self) -> AsyncOpenAI:
        import openai

        # The pool's own type, whichever HTTP library this version of the client is built on.
        limits = type(openai.DEFAULT_CONNECTION_LIMITS)(
            max_connections=self._max_concurrency, max_keepalive_connections=self._max_concurrency
        )
        timeout = openai.Timeout(self._timeout_s, connect=min(10.0, self._timeout_s))
        return openai.AsyncOpenAI(
            base_url=self.base_url,
            api_key=self._api_key or "none",
            default_headers={"Authorization": f"Basic {self._login}"} if self._login else None,
            default_query=self._query or None,
            timeout=timeout,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(
                limits=limits, timeout=timeout, trust_env=self._uses_proxies
            ),
        )

    async def _body(self, line: _Line, messages: Sequence[Message], sampling: Sampling) -> dict[str, Any]:
        async with line.naming:
            if self._model_name is None:
                self._model_name = _the_only(await self._served(line.client), self.base_url)
        # In a thread, because it encodes the images.
        return await asyncio.to_thread(
            request_body, self._model_name, messages, self.options.widened(sampling), self.options
        )

    async def _send(
        self, send: Callable[[dict[str, Any]], Awaitable[T]], body: dict[str, Any], deadline: float
    ) -> tuple[T, dict[str, Any]]:
        """Send a request in the form that the server accepts: the reply, and the body that was sent."""

        async def attempt() -> tuple[T, dict[str, Any]]:
            while True:
                accepted = self._dialect.body(body)
                try:
                    return await send(accepted), accepted
                except Exception as error:
                    if not is_refusal(error) or not self._dialect.learn(refusal(error), body, accepted):
                        raise

        return await self._with_retries(attempt, deadline)

    async def _served(self, client: AsyncOpenAI) -> list[str]:
        try:
            return await self._listed(client, read_model_names)
        except ModelError as error:
            if error.kind in ("unreachable", "timeout"):
                raise
            # Not every server can list its models (`transformers serve` without a download cache cannot).
            raise ModelError(f"{error}; name the model: {self.base_url}#NAME", kind=error.kind) from error

    async def _listed(self, client: AsyncOpenAI, read: Callable[[object], T]) -> T:
        """What `read` finds in the server's list of models."""

        async def ask() -> T:
            return read(json.loads((await client.models.with_raw_response.list()).content))

        return await self._with_retries(ask, self._deadline())

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._deadline_s

    async def _with_retries(self, attempt: Callable[[], Awaitable[T]], deadline: float) -> T:
        loop = asyncio.get_running_loop()
        failed = waited = 0
        patience: float | None = None
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    result = await attempt()
            except Exception as error:
                failure = self._failure(error)
                if failure.loading:
                    waited += 1
                    patience = patience or min(deadline, loop.time() + self._timeout_s)
                    self._tell_loading(failure)
                else:
                    failed += 1
                pause_s = failure.pause_s(waited if failure.loading else failed, self._backoff_s)
                end = patience if patience and failure.loading else deadline
                too_late = loop.time() + pause_s >= end
                if not failure.again or failed > self._max_retries or too_late:
                    raise failure.error(self.name) from error
            else:
                self._told_loading = False
                return result
            await asyncio.sleep(pause_s)

    def _tell_loading(self, failure: Failure) -> None:
        """Say once, for all the requests that wait, why nothing happens."""
        if not self._told_loading:
            self._told_loading = True
            _LOG.warning("%s: %s; waiting for up to %g s", self.name, failure.text, self._timeout_s)

    async def _once(self, step: Callable[[], Awaitable[T]], deadline: float) -> T:
        try:
            async with asyncio.timeout_at(deadline):
                return await step()
        except Exception as error:
            raise self._failure(error).error(self.name) from error

    def _failure(self, error: Exception) -> Failure:
        """What the exception says about the request; an exception that is none of a request's is raised."""
        failure = read_failure(
            error, url=self.base_url, timeout_s=self._timeout_s, deadline_s=self._deadline_s
        )
        text = failure.text
        # Servers and proxies may repeat what they were sent.
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return replace(failure, text=text)


class _Reply:
    """A streamed reply on its way.

    Attributes:
        piece: the text that the last event brought, often empty.
        more: whether there may be more events.
    """

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self._reader = StreamReader()
        self._done = False
        self.piece = ""
        self.more = True

    async def read(self) -> None:
        """Read one event."""
        self.piece = ""
        async for line in self._lines:
            field, _, data = line.partition(":")
            if field != "data" or not data.strip():
                continue
            if data.strip() == "[DONE]":
                self._done = True
                break
            self.piece = self._reader.feed(json.loads(data))
            return
        self.more = False

    async def end(self) -> tuple[str, Completion]:
        """The text that is still owed, and the whole reply."""
        if self._done:
            # A connection can be used again once its reply is read to the end; the reply is there anyway.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_DRAIN_S):
                    async for _ in self._lines:
                        pass
        return self._reader.end(done=self._done)


def _arguments(body: dict[str, Any]) -> dict[str, Any]:
    """A body as arguments of the client, which sends fields that it does not know only as `extra_body`."""
    rest = {name: value for name, value in body.items() if name not in ("model", "messages")}
    return {"model": body["model"], "messages": body["messages"], "extra_body": rest}


async def _lifetime(client: AsyncOpenAI) -> AsyncGenerator[None]:
    """Holds a client open until it is closed itself, by `aclose` or by the end of its event loop."""
    try:
        yield
    finally:
        await client.close()


def _the_only(names: list[str], url: str) -> str:
    if len(names) == 1:
        return names[0]
    if not names:
        raise ModelError("the server serves no model", kind="rejected", model=url)
    choices = ", ".join(f"#{name}" for name in names)
    raise ModelError(f"the server has several models: add one of {choices}", kind="rejected", model=url)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
