"""The errors of the protocol.

`{"error": {"message": …, "type": …, "param": …, "code": …}}`; `param` is the path of the field at fault, for
example `messages.0.content.1.image_url.url`.
"""

from __future__ import annotations

import logging
import traceback
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Mapping

    from p2r.errors import ModelError, ModelErrorKind

log = logging.getLogger("p2r.serving")

_TYPES = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error", 504: "timeout_error"}

# What clients get; the model's own message, which may name internal addresses, goes to the log.
_MODEL_FAILURES: dict[ModelErrorKind, tuple[int, str]] = {
    "unreachable": (503, "the model cannot be reached"),
    "timeout": (504, "the model did not answer in time"),
    "rejected": (502, "the model refused the request"),
    "overloaded": (503, "the model is overloaded"),
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
    """The body of every error reply."""

    error: ErrorDetail


@dataclass(eq=False)
class APIError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: the HTTP status.
        message: one line that says what happened and what to do.
        param: the path of the field at fault.
        code: one word for programs.
        headers: for example `Retry-After`.
    """

    status: int
    message: str
    _: KW_ONLY
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] | None = None

    def body(self) -> dict[str, Any]:
        """The JSON of the reply, or of an event in a stream."""
        kind = _TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        """The HTTP reply."""
        return JSONResponse(self.body(), self.status, self.headers)


def invalid_field(path: str, why: str) -> APIError:
    """A field that is not served."""
    return APIError(400, f"{path}: {why}", param=path, code="invalid_value")


def shutting_down() -> APIError:
    """The server ends before the request is answered."""
    headers = {"Retry-After": "5"}
    return APIError(503, "the server is shutting down: try again", code="shutting_down", headers=headers)


def internal_error(error: Exception) -> APIError:
    """An unexpected exception. Its traceback is logged without its message, which may quote a request."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("an unexpected %s\n%s", type(error).__name__, frames)
    # uvicorn closes the connection after an error that reaches it: clients must not reuse it.
    return APIError(500, "the server failed", code="internal", headers={"Connection": "close"})


def model_error(error: ModelError, request_id: str) -> APIError:
    """A failed model call. Clients get the kind of the failure; the message of the model is logged."""
    message = "".join(char if char.isprintable() else " " for char in str(error))[:500]
    log.warning("%s: %s", request_id, message)
    status, text = _MODEL_FAILURES[error.kind]
    headers = {"Retry-After": "5"} if status == 503 else {}
    return APIError(status, text, code=f"model_{error.kind}", headers=headers)
