"""What went wrong with a request to a server, in one line, and whether asking again may help.

Asked again: 429 and 5xx (after the server's Retry-After, if it says one), broken connections, timeouts, and
replies that are not what the protocol promises. Never: any other 4xx, because the same request would be
refused again.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from p2r.errors import ModelError, ModelErrorKind
from p2r.models.wire import FilteredError

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST_PAUSE_S = 8.0
_LONGEST_TEXT = 300


@dataclass(frozen=True, slots=True)
class Failure:
    """One failed attempt.

    Attributes:
        kind: as in `ModelError`.
        text: one line for people.
        again: whether the same request may succeed later.
        retry_after_s: how long the server asked us to wait; None when it did not say.
    """

    kind: ModelErrorKind
    text: str
    again: bool = False
    retry_after_s: float | None = None

    def error(self, model: str) -> ModelError:
        """The error to raise."""
        return ModelError(self.text, kind=self.kind, model=model)

    def pause_s(self, attempt: int, backoff_s: float) -> float:
        """How long to wait after the `attempt`-th failure (from 1); jittered, so that callers spread out."""
        if self.retry_after_s is not None:
            return self.retry_after_s * random.uniform(1.0, 1.1)
        return min(LONGEST_PAUSE_S, backoff_s * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1.0)


def read_failure(error: Exception, *, url: str, timeout_s: float, deadline_s: float) -> Failure:
    """Read what a request raised: an `openai` exception, a timeout of ours, or an unreadable reply.

    Any other exception is a mistake in the program and is raised again.
    """
    import openai

    if isinstance(error, openai.APIStatusError):
        return _status_failure(error.status_code, _said(error), error.response.headers)
    if isinstance(error, openai.APITimeoutError):
        if "Connect" in type(error.__cause__).__name__:
            return Failure(
                "unreachable", f"no connection to {url} in time; is the server running?", again=True
            )
        text = f"no reply from {url} within {timeout_s:g} s; is it overloaded, or is timeout_s too short?"
        return Failure("timeout", text, again=True)
    if isinstance(error, openai.APIConnectionError):
        return _connection_failure(error.__cause__, url)
    if isinstance(error, openai.APIError):  # an error that arrived inside a stream
        return Failure("server", f"the server reports: {_one_line(error.message)}")
    if isinstance(error, TimeoutError):
        return Failure("timeout", f"no whole reply from {url} within the deadline of {deadline_s:g} s")
    if isinstance(error, FilteredError):
        return Failure("rejected", str(error))
    # Not JSON, nested without end, or JSON of another shape.
    if isinstance(error, ValueError | RecursionError):
        return Failure("invalid_reply", f"unreadable reply from {url}: {_one_line(str(error))}", again=True)
    raise error


def _connection_failure(cause: BaseException | None, url: str) -> Failure:
    what = _one_line(str(cause)) or type(cause).__name__
    if "Connect" in type(cause).__name__:
        return Failure("unreachable", f"cannot reach {url} ({what}); is the server running?", again=True)
    if "complete message body" in what:
        return Failure("invalid_reply", f"{url} closed the connection in the middle of its reply", again=True)
    return Failure("unreachable", f"the connection to {url} broke ({what})", again=True)


def _status_failure(status: int, said: str, headers: Mapping[str, str]) -> Failure:
    if status in (429, 503):
        wait = read_retry_after(headers.get("retry-after"))
        return Failure("overloaded", f"the server is overloaded ({status}): {said}", True, wait)
    if status >= 500:
        wait = read_retry_after(headers.get("retry-after"))
        return Failure("server", f"the server failed ({status}): {said}", True, wait)
    cure = {
        401: "; set P2R_API_KEY",
        403: "; set P2R_API_KEY",
        404: "; check the model's name, and that the URL ends in /v1",
        413: "; lower the pixel budgets, or raise the server's limit",
    }
    text = f"the server refused the request ({status}): {said}{cure.get(status, '')}"
    return Failure("rejected", text)


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


def _said(error: Any) -> str:
    """The server's own words: the protocol's error message, or the beginning of whatever it sent."""
    body = error.body if isinstance(error.body, dict) else {}
    message = body.get("message") or body.get("detail")  # the latter is FastAPI's own
    return _one_line(message if isinstance(message, str) else error.response.text) or "no reason given"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_TEXT else line[: _LONGEST_TEXT - 1] + "…"
