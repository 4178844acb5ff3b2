"""Stops a run that has nothing to gain from going on: a server that is down is not a model that is wrong."""

from __future__ import annotations

import re
from collections import Counter, deque
from typing import NamedTuple

from p2r.errors import InputError, ModelError

WINDOW = 50
MOST_FAILURES = 10


class FailureMonitor:
    """Watches the last attempts.

    Calls that failed and input that cannot be used are counted apart: the one is a server's trouble, which
    passes, the other is in the data.

    Args:
        most_failures: the run stops when as many of the last `window` attempts failed in one of these ways.
        window: how many attempts are looked at.

    Raises:
        InputError: a limit that is not within 1 to `window`.
    """

    def __init__(self, most_failures: int = MOST_FAILURES, window: int = WINDOW) -> None:
        if not 1 <= most_failures <= window:
            raise InputError(
                f"at most {window} of {window} attempts can fail, and at least 1: {most_failures}"
            )
        self._most = most_failures
        self._last: deque[_Failure | None] = deque(maxlen=window)

    def note_success(self) -> None:
        """One attempt gave an answer, right or wrong."""
        self._last.append(None)

    def note_failure(self, cause: str, *, of_input: bool = False) -> None:
        """One attempt failed.

        Args:
            cause: why, in one line.
            of_input: the image or the row cannot be used; otherwise a model call failed.

        Raises:
            ModelError: too many of the last calls failed; the text names the most frequent cause.
            InputError: too much of the input cannot be used; the text names the most frequent cause.
        """
        self._last.append(_Failure(cause, of_input))
        causes = [failure.cause for failure in self._last if failure and failure.of_input == of_input]
        if len(causes) < self._most:
            return
        groups = Counter(_NAMES.sub("…", text) if of_input else text for text in causes)
        often, times = groups.most_common(1)[0]
        most = "all of them" if times == len(causes) else f"{times} of them"
        seen = f"stopped: {len(causes)} of the last {len(self._last)} attempts failed"
        if of_input:
            raise InputError(f"{seen} because of their input, {most}: {often}; the last one: {cause}")
        raise ModelError(
            f"{seen}, {most}: {often}; see to it and run the same command again: it goes on where it stopped",
            kind="overloaded",
        )


class _Failure(NamedTuple):
    cause: str
    of_input: bool


# What tells one image from another in the causes that they share: its path, its row, its numbers.
_NAMES = re.compile(r"^.*\.\w{3,4}(?=: )|\S*[/\\][^\s:,]+|(?<!column )'[^']*'|\(.*?\)|\d[\d,.×]*")
