"""Every error that perceive-to-reason raises on purpose.

`InputError`: the user's input cannot be used (exit code 2 on the command line).
`ModelError`: a model call failed; it is the only error that a model call raises (exit code 3).
A failed call is never a wrong answer: callers turn a `ModelError` into *no score*, not into zero.
"""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Literal

from p2r.text import encodable, without_secrets

ModelErrorKind = Literal[
    "unreachable", "timeout", "rejected", "overloaded", "server", "invalid_reply", "internal"
]


class P2RError(Exception):
    """The base of every error raised on purpose; its text is one readable line, without passwords of URLs."""

    def __init__(self, message: str = "") -> None:
        super().__init__(without_secrets(encodable(message)))


class InputError(P2RError, ValueError):
    """A question, image, option or file that cannot be used; the text names it and what it may be."""


def file_problem(error: OSError | ValueError, missing: str = "") -> str:
    """One phrase for an error of reading or writing a file, without its path and number.

    Args:
        error: the error.
        missing: a hint for the case that there is no such file.
    """
    if isinstance(error, FileNotFoundError):
        return f"there is no such file; {missing}" if missing else "there is no such file"
    if isinstance(error, IsADirectoryError):
        return "it is a folder, not a file"
    if isinstance(error, PermissionError):
        return "no permission"
    if isinstance(error, UnicodeDecodeError):
        return "it is not a text file (UTF-8)"
    if isinstance(error, json.JSONDecodeError):
        return f"it is not JSON: {error}"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)


class MissingExtraError(InputError, ImportError):
    """An optional dependency is not installed; the text names the command that installs it."""

    def __init__(self, extra: str, package: str) -> None:
        super().__init__(f"{package} is not installed: {install_command(extra)}")


class ModelError(P2RError):
    """A model call failed.

    Args:
        message: one line that says what happened and, where it helps, what to do.
        kind: `unreachable` (no connection), `timeout`, `rejected` (the server refused this request, 4xx),
            `overloaded` (429 or 503 after all retries), `server` (other 5xx), `invalid_reply` (not what the
            protocol promises), `internal` (the local engine raised).
        model: the model's name, for the message.
    """

    def __init__(self, message: str, *, kind: ModelErrorKind, model: str = "") -> None:
        super().__init__(f"{model}: {message}" if model else message)
        self.kind = kind
        self.model = model

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), kind=self.kind), self.args, vars(self)


def install_command(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'perceive-to-reason[{extra}]'"
