"""What went wrong with a request to a server, in one line, and whether sending it again may help.

Sent again: 429 and 5xx (after the server's Retry-After), broken connections, timeouts, and replies that are
not what the protocol promises. Never: any other 4xx, because the same request would be refused again. A
server that is still loading its model is waited for.
"""

from __future__ import annotations

import json
import random
import re
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from p2r.errors import ModelError, ModelErrorKind
from p2r.models.base import one_line
from p2r.models.wire import NoTextError, ReportedError, server_words

if TYPE_CHECKING:
    from collections.abc import Mapping

_LONGEST_PAUSE_S = 8.0
_TAG = re.compile(r"<(?:style|script).*?</(?:style|script)>|<[^<>]*>", re.DOTALL | re.IGNORECASE)
# What llama.cpp, TGI, hosted endpoints and the proxies before them say while a model is not there yet.
_LOADING = re.compile(
    r"\b(?:loading|load in progress|starting|start(?:ed)? up|warm(?:ing|ed)? ?up|wak(?:e|ing)|sleep"
    r"|initiali[sz]|not (?:yet )?(?:ready|loaded|started)|cold start|scal(?:ed|ing) |booting|unhealthy"
    r"|being (?:loaded|deployed)|no (?:healthy upstream|available server|server is available)"
    r"|estimated_time)",
    re.IGNORECASE,
)
# OpenAI's own models refuse a request whose limit was used up by their thinking.
_USED_UP = re.compile(r"output limit was reached|higher max_(?:completion_)?tokens", re.IGNORECASE)
# Engines and hosted models name the number of images that they take in one request.
_TOO_MANY_IMAGES = re.compile(r"(?:at most|max|limit|more|too many)\D{0,40}\d* ?images?\b", re.IGNORECASE)
_HINTS = {
    401: "; set P2R_API_KEY",
    403: "; set P2R_API_KEY",
    404: "; check the model's name, and that the URL ends in /v1",
    413: "; lower the pixel budgets, or raise the server's limit",
    502: "; a proxy answers there, and the server behind it does not: is it running?",
    504: "; a proxy answers there, and the server behind it does not: is it running?",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt."""

    kind: ModelErrorKind
    text: str  # one line for people
    again: bool = False  # the same request may succeed later
    retry_after_s: float | None = None  # the delay that the server requests
    loading: bool = False  # the server is there, and its model not yet

    def error(self, model: str) -> ModelError:
        """The error to raise."""
        return ModelError(self.text, kind=self.kind, model=model)

    def pause_s(self, attempt: int, backoff_s: float) -> float:
        """How long to wait after the `attempt`-th failure (from 1); jittered, so that callers spread out."""
        if self.retry_after_s is not None:
            return self.retry_after_s * random.uniform(1.0, 1.1)
        return min(_LONGEST_PAUSE_S, backoff_s * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)


def read_failure(error: Exception, *, url: str, timeout_s: float, deadline_s: float) -> Failure:
    """Read what a request raised: an `openai` exception, a timeout of ours, or an unreadable reply.

    Any other exception is a bug of the program and is raised again.
    """
    import openai

    if isinstance(error, openai.APIStatusError):
        return _status_failure(error.status_code, refusal(error), error.response.headers)
    if isinstance(error, ReportedError):
        if error.code is not None:
            return _status_failure(error.code, error.data, {})
        text = f"the server reports: {one_line(error)}"
        return Failure("server", text, again=True, loading=_is_loading(error.data))
    if isinstance(error, openai.APITimeoutError):
        return _connection_failure(error.__cause__, url, timeout_s, timed_out=True)
    if isinstance(error, openai.APIConnectionError):
        return _connection_failure(error.__cause__, url, timeout_s)
    # The client's HTTP library, by its name: it differs between versions of the client.
    if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2"):
        return _connection_failure(error, url, timeout_s)
    if isinstance(error, TimeoutError):
        return Failure("timeout", f"no whole reply from {url} within the deadline of {deadline_s:g} s")
    if isinstance(error, NoTextError):
        return Failure("rejected", one_line(error))
    # Not JSON, nested without end, or JSON of another shape.
    if isinstance(error, ValueError | RecursionError):
        return Failure("invalid_reply", f"unreadable reply from {url}: {one_line(error)}", again=True)
    raise error


def is_refusal(error: Exception) -> bool:
    """Whether a server refused a request as such, in a reply of status 200 or not."""
    import openai

    if isinstance(error, ReportedError):
        return error.code in (400, 422, None)
    return isinstance(error, openai.BadRequestError | openai.UnprocessableEntityError)


def refusal(error: Any) -> object:
    """The body of a refusal: its JSON, or its text where it is none."""
    if isinstance(error, ReportedError):
        return error.data
    text: str = error.response.text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def read_retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, which holds seconds or a date; None when it holds neither."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return max(0.0, seconds) if seconds < float("inf") else None


def _connection_failure(
    cause: BaseException | None, url: str, timeout_s: float, *, timed_out: bool = False
) -> Failure:
    name = type(cause).__name__
    what = one_line(cause)
    if timed_out or "Timeout" in name:
        if "Connect" in name:
            text = f"no connection to {url} in time; is the server running?"
            return Failure("unreachable", text, again=True)
        text = f"no reply from {url} within {timeout_s:g} s; is it overloaded, or is timeout_s too short?"
        return Failure("timeout", text, again=True)
    if "Connect" in name:
        return Failure("unreachable", f"cannot reach {url} ({what}); is the server running?", again=True)
    if "complete message body" in what:
        return Failure("invalid_reply", f"{url} closed the connection in the middle of its reply", again=True)
    return Failure("unreachable", f"the connection to {url} broke ({what})", again=True)


def _status_failure(status: int, data: object, headers: Mapping[str, str]) -> Failure:
    said = _said(data)
    wait = read_retry_after(headers.get("retry-after"))
    hint = _HINTS.get(status, "")
    if status in (502, 503, 504) and _is_loading(data):
        text = f"the server has no model yet ({status}): {said}"
        return Failure("overloaded", text, again=True, retry_after_s=wait, loading=True)
    if status in (429, 503):
        text = f"the server is overloaded ({status}): {said}"
        return Failure("overloaded", text, again=True, retry_after_s=wait)
    if status >= 500:
        text = f"the server failed ({status}): {said}{hint}"
        return Failure("server", text, again=True, retry_after_s=wait)
    if _USED_UP.search(said):
        hint = "; the model's thinking needs more: set thinking_tokens (docs/models.md)"
    elif _TOO_MANY_IMAGES.search(said):
        hint = "; ask about fewer images, or with --set perceive_images=apart, or lower geometry.max_crops"
    return Failure("rejected", f"the server refused the request ({status}): {said}{hint}")


def _is_loading(data: object) -> bool:
    keys = " ".join(data) if isinstance(data, dict) else ""
    return bool(_LOADING.search(f"{_said(data)} {keys}"))


def _said(data: object) -> str:
    """The server's words in one line; of a proxy's page its text."""
    words = _TAG.sub(" ", server_words(data))
    return one_line(words) if words.strip() else "no reason given"
