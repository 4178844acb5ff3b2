"""Every way in which a request fails, in the error shape of the OpenAI protocol.

`{"error": {"message": …, "type": …, "param": …, "code": …}}`; `param` is the path of the field at fault, for
example `messages.0.content.1.image_url.url`.
"""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from p2r.errors import ModelError, ModelErrorKind

log = logging.getLogger("p2r.serving")

_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 504: "timeout_error"}

# What a client is told; the server's log has the model's own words, which may name inner addresses.
_MODEL_FAILURES: dict[ModelErrorKind, tuple[int, str]] = {
    "unreachable": (503, "the model cannot be reached"),
    "timeout": (504, "the model did not answer in time"),
    "rejected": (502, "the model refused the request"),
    "overloaded": (503, "the model has too much to do"),
    "server": (502, "the model failed"),
    "invalid_reply": (502, "the model's reply could not be read"),
    "internal": (500, "the model failed"),
}


class ErrorDetail(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorBody(BaseModel):
    """The body of every reply that is an error."""

    error: ErrorDetail


class RequestFailed(Exception):  # noqa: N818  (it is what happened to the request, ours to blame or not)
    """A request that is answered with an error.

    Args:
        status: the HTTP status.
        message: one line that says what happened and, where it helps, what to do.
        param: the path of the field at fault.
        code: one word for programs.
        headers: for example `Retry-After`.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON of the reply, or of an event in a stream."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        detail = ErrorDetail(message=self.message, type=kind, param=self.param, code=self.code)
        return ErrorBody(error=detail).model_dump()

    def response(self) -> JSONResponse:
        """The whole reply."""
        return JSONResponse(self.body(), self.status, self.headers)


def refused(path: str, why: str) -> RequestFailed:
    """The refusal of one field, which the message names."""
    return RequestFailed(400, f"{path}: {why}", param=path, code="invalid_value")


def unexpected(error: Exception) -> RequestFailed:
    """What a client is told about a fault of ours. Where it happened is logged, without the words of it:
    they may hold what somebody asked."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("an unexpected %s\n%s", type(error).__name__, frames)
    # uvicorn hangs up after an error that reaches it; a client must not ask again on that connection.
    return RequestFailed(500, "the server failed", code="internal", headers={"Connection": "close"})


def from_model_error(error: ModelError, name: str) -> RequestFailed:
    """What a client is told about a model that failed: the kind of failure. The model's own words are logged,
    under the name of the question."""
    words = "".join(char if char.isprintable() else " " for char in str(error))[:500]
    log.warning("%s: %s", name, words)
    status, message = _MODEL_FAILURES[error.kind]
    headers = {"Retry-After": "5"} if status == 503 else {}
    return RequestFailed(status, message, code=f"model_{error.kind}", headers=headers)
