"""A model behind any OpenAI-compatible server: vLLM, SGLang, `transformers serve`, a cloud.

The official `openai` client carries the requests. Added here: fields that a server refuses are left out of
later requests (`dialect`), replies are read wherever the server puts their text (`wire`), unreadable replies
are retried like any other failure (`retries`), and every event loop has its own connections, which are closed
when that loop ends.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ipaddress
import json
import logging
import os
from contextlib import AsyncExitStack
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
_SHORTEST_SECRET = 4  # characters: a shorter text is no secret, and part of many words

# What is open on each event loop. A loop closes the generators it started before it ends, but not those that
# the garbage collector finds first: held here, a model that was dropped still closes its connections.
_LIFETIMES: WeakKeyDictionary[asyncio.AbstractEventLoop, set[AsyncGenerator[None]]] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Connections:
    """What one event loop holds of an endpoint."""

    client: AsyncOpenAI
    slots: asyncio.Semaphore
    naming: asyncio.Lock
    lifetime: AsyncGenerator[None]


class EndpointModel:
    """A model of an OpenAI-compatible server; it also streams.

    Args:
        base_url: up to and including the version, for example `http://127.0.0.1:8000/v1`. A user with a
            password, and a query, are sent with every request, and are shown nowhere.
        model_name: as the server calls it; None takes the server's only model.
        api_key: by default the environment's P2R_API_KEY, then OPENAI_API_KEY; local servers need none.
        timeout_s: the longest wait for one reply (of a stream: for its next piece).
        deadline_s: the longest time for one call, all retries included.
        max_retries: how often a failed request is sent again (`retries` says which are).
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
        if min(timeout_s, deadline_s, max_concurrency) <= 0 or max_retries < 0:
            raise InputError(
                "timeout_s, deadline_s, max_concurrency must be positive, max_retries at least 0"
            )
        self.options = options or ModelOptions()
        self.base_url, self._login, self._query = _split_url(base_url)
        self._model_name = model_name
        self._api_key = api_key or os.environ.get("P2R_API_KEY") or os.environ.get("OPENAI_API_KEY")
        self._timeout_s = timeout_s
        self._deadline_s = deadline_s
        self._max_retries = max_retries
        self._backoff_s = backoff_s
        self._max_concurrency = max_concurrency
        self._dialect = Dialect(self.options)
        self._logged_loading = False
        self._connections: WeakKeyDictionary[asyncio.AbstractEventLoop, Connections] = WeakKeyDictionary()

    @property
    def name(self) -> str:
        """The server's name for the model; the URL until it is known."""
        return self._model_name or self.base_url

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        """Complete one conversation; see `Model.complete`."""
        pieces = [piece async for piece in self._pieces(messages, sampling, streams=False)]
        return next(piece for piece in pieces if isinstance(piece, Completion))

    def stream(self, messages: Sequence[Message], sampling: Sampling) -> AsyncGenerator[str | Completion]:
        """Complete one conversation piece by piece; see `StreamingModel.stream`.

        A request is sent again only before the first part of the reply. A server that does not stream
        gives its reply as one piece.
        """
        return self._pieces(messages, sampling, streams=True)

    async def context_tokens(self) -> int | None:
        """The model's context window as the server's list of models names it; None where it does not."""

        def read(data: object) -> int | None:
            names = [self._model_name] if self._model_name else read_model_names(data)
            return read_context_tokens(data, names[0]) if len(names) == 1 else None

        try:
            return await self._listed((await self._connected()).client, read)
        except ModelError as error:
            if error.kind in ("unreachable", "timeout"):
                raise
            return None  # not every server can list its models

    async def aclose(self) -> None:
        """Close the connections of the running event loop; those of others close as their loops end."""
        loop = asyncio.get_running_loop()
        connections = self._connections.pop(loop, None)
        if connections is not None:
            await connections.lifetime.aclose()
            _LIFETIMES[loop].discard(connections.lifetime)

    async def _pieces(
        self, messages: Sequence[Message], sampling: Sampling, *, streams: bool
    ) -> AsyncGenerator[str | Completion]:
        connections = await self._connected()
        async with connections.slots, AsyncExitStack() as stack:
            deadline = self._deadline()
            name = await self._name(connections)
            # In a thread, because it encodes the images.
            body = await asyncio.to_thread(
                request_body, name, messages, self.options.widened(sampling), self.options
            )
            if streams:
                body |= STREAMED

            async def send() -> tuple[_Reply, dict[str, Any]]:
                """Send the request in the form that the server accepts: the reply, and what was sent."""
                while True:
                    accepted = self._dialect.body(body)
                    try:
                        return await _post(connections.client, accepted, stack), accepted
                    except Exception as error:
                        if not is_refusal(error) or not self._dialect.learn(refusal(error), body, accepted):
                            raise

            reply, sent = await self._with_retries(send, deadline)
            while reply.completion is None:
                if reply.piece:
                    yield reply.piece
                try:
                    async with asyncio.timeout_at(deadline):
                        await reply.read()
                except Exception as error:
                    raise self._failure(error).error(self.name) from error
            if reply.piece:
                yield reply.piece
            yield replace(reply.completion, notes=left_out(body, sent))

    async def _connected(self) -> Connections:
        loop = asyncio.get_running_loop()
        if (connections := self._connections.get(loop)) is None:
            client = self._new_client()
            connections = self._connections[loop] = Connections(
                client, asyncio.Semaphore(self._max_concurrency), asyncio.Lock(), _lifetime(client)
            )
            _LIFETIMES.setdefault(loop, set()).add(connections.lifetime)
            await anext(connections.lifetime)
        return connections

    def _new_client(self) -> AsyncOpenAI:
        import openai

        # The pool's own type, whichever HTTP library this version of the client is built on.
        limits = type(openai.DEFAULT_CONNECTION_LIMITS)(
            max_connections=self._max_concurrency, max_keepalive_connections=self._max_concurrency
        )
        timeout = openai.Timeout(self._timeout_s, connect=min(10.0, self._timeout_s))
        login = base64.b64encode(self._login.encode()).decode()
        return openai.AsyncOpenAI(
            base_url=self.base_url,
            api_key=self._api_key or "none",
            default_headers={"Authorization": f"Basic {login}"} if login else None,
            default_query=self._query or None,
            timeout=timeout,
            max_retries=0,
            http_client=openai.DefaultAsyncHttpxClient(
                limits=limits, timeout=timeout, trust_env=not _is_loopback(self.base_url)
            ),
        )

    async def _name(self, connections: Connections) -> str:
        """The model's name; the server's only model where none was given."""
        async with connections.naming:
            if self._model_name is None:
                try:
                    names = await self._listed(connections.client, read_model_names)
                except ModelError as error:
                    if error.kind in ("unreachable", "timeout"):
                        raise
                    # `transformers serve` without a download cache, for example, cannot list its models.
                    text = f"{error}; name the model: {self.base_url}#NAME"
                    raise ModelError(text, kind=error.kind) from error
                if len(names) != 1:
                    choices = ", ".join(f"#{name}" for name in names)
                    text = f"has several models: add one of {choices}" if names else "serves no model"
                    raise ModelError(f"the server {text}", kind="rejected", model=self.base_url)
                self._model_name = names[0]
        return self._model_name

    async def _listed(self, client: AsyncOpenAI, read: Callable[[object], T]) -> T:
        """What `read` finds in the server's list of models."""

        async def list_models() -> T:
            return read(json.loads((await client.models.with_raw_response.list()).content))

        return await self._with_retries(list_models, self._deadline())

    def _deadline(self) -> float:
        return asyncio.get_running_loop().time() + self._deadline_s

    async def _with_retries(self, attempt: Callable[[], Awaitable[T]], deadline: float) -> T:
        loop = asyncio.get_running_loop()
        tries = failed = 0
        loading_until: float | None = None  # how long a server may load its model
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    result = await attempt()
            except Exception as error:
                failure, end = self._failure(error), deadline
                tries += 1
                if failure.loading:
                    end = loading_until = loading_until or min(deadline, loop.time() + self._timeout_s)
                    self._log_loading(failure)
                else:
                    failed += 1
                pause_s = failure.pause_s(tries, self._backoff_s)
                too_late = loop.time() + pause_s >= end
                if not failure.again or failed > self._max_retries or too_late:
                    raise failure.error(self.name) from error
            else:
                self._logged_loading = False
                return result
            await asyncio.sleep(pause_s)

    def _log_loading(self, failure: Failure) -> None:
        """Log once, for all the requests that wait, why nothing happens."""
        if not self._logged_loading:
            self._logged_loading = True
            _LOG.warning("%s: %s; waiting for up to %g s", self.name, failure.text, self._timeout_s)

    def _failure(self, error: Exception) -> Failure:
        """What an exception says about the request; one that is a bug of the program is raised again."""
        failure = read_failure(
            error, url=self.base_url, timeout_s=self._timeout_s, deadline_s=self._deadline_s
        )
        # Servers and proxies may repeat what they were sent.
        login = base64.b64encode(self._login.encode()).decode()
        text = failure.text
        for secret in (self._api_key or "", login, *self._login.split(":", 1), *self._query.values()):
            if len(secret) >= _SHORTEST_SECRET:
                text = text.replace(secret, "…")
        return replace(failure, text=text)


class _Reply:
    """A reply that is being read.

    Attributes:
        piece: the text that the last event brought, often empty.
        completion: the whole reply, after the last event.
    """

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self.piece = ""
        self.completion: Completion | None = None
        self._lines = lines
        self._reader = StreamReader()

    async def read(self) -> None:
        """Read one event of a stream."""
        done = False
        async for line in self._lines:
            field, _, data = line.partition(":")
            if field != "data" or not data.strip():
                continue
            if data.strip() != "[DONE]":
                self.piece = self._reader.feed(json.loads(data))
                return
            done = True
            break
        if done:
            # A connection can be used again once its reply is read to the end; the reply is complete anyway.
            with contextlib.suppress(Exception):
                async with asyncio.timeout(_DRAIN_S):
                    async for _ in self._lines:
                        pass
        self.piece, self.completion = self._reader.end(done=done)


async def _post(client: AsyncOpenAI, body: dict[str, Any], stack: AsyncExitStack) -> _Reply:
    """Send a request; `stack` closes the response of a reply that is streamed."""
    # The client sends fields that it does not know only as `extra_body`.
    rest = dict(body)
    named = {"model": rest.pop("model"), "messages": rest.pop("messages")}
    create = client.chat.completions.with_streaming_response.create
    async with AsyncExitStack() as attempt:
        response = await attempt.enter_async_context(create(**named, extra_body=rest))
        reply = _Reply(response.iter_lines())
        # What the server does counts, not the request: some always stream, some never.
        content = response.headers.get("content-type", "")
        if "event-stream" not in content and ("stream" not in body or "json" in content):
            reply.completion = read_completion(json.loads(await response.read()))
            reply.piece = reply.completion.text
        else:
            # Here, because a server may refuse or fail in its first event as well.
            await reply.read()
            await stack.enter_async_context(attempt.pop_all())
        return reply


async def _lifetime(client: AsyncOpenAI) -> AsyncGenerator[None]:
    """Holds a client open until it is closed itself, by `aclose` or by the end of its event loop."""
    try:
        yield
    finally:
        await client.close()


def _split_url(base_url: str) -> tuple[str, str, dict[str, str]]:
    """The URL without secrets, `user:password` or an empty text, and the query."""
    try:
        url = urlsplit(base_url)
        _ = url.port  # raises if it is no number
    except ValueError:
        url = urlsplit("")
    if not url.hostname or url.scheme not in ("http", "https"):
        raise InputError(f"{base_url!r} is no server: write http://host:port/v1 or https://host/v1")
    user, _, host = url.netloc.rpartition("@")
    login = unquote(user) if not user or ":" in user else f"{unquote(user)}:"
    return f"{url.scheme}://{host}{url.path}".rstrip("/"), login, dict(parse_qsl(url.query))


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
