"""Stop a run after too many failures: a server failure is not a wrong answer."""

from __future__ import annotations

import re
from collections import Counter, deque

from p2r.errors import InputError, ModelError

WINDOW = 50
MOST_FAILURES = 10
# What tells one image from another in an error message: its path, its row, its numbers.
_NAMES = re.compile(r"^.*\.\w{3,4}(?=: )|\S*[/\\][^\s:,]+|(?<!column )'[^']*'|\(.*?\)|\d[\d,.×]*")


class FailureMonitor:
    """Failures among the last attempts.

    Calls that failed and input that cannot be used are counted separately: a server may recover, the data do
    not.

    Args:
        most_failures: the run stops when this many of the last `window` attempts failed in one of these ways.
        window: the number of attempts.

    Raises:
        InputError: a limit that is not within 1 to `window`.
    """

    def __init__(self, most_failures: int = MOST_FAILURES, window: int = WINDOW) -> None:
        if not 1 <= most_failures <= window:
            raise InputError(
                f"at most {window} of {window} attempts can fail, and at least 1: {most_failures}"
            )
        self._most = most_failures
        self._last: deque[tuple[str, bool]] = deque(maxlen=window)  # cause, empty for none; of input

    def note_success(self) -> None:
        """One attempt gave an answer, right or wrong."""
        self._last.append(("", False))

    def note_failure(self, cause: str, *, of_input: bool = False) -> None:
        """One attempt failed.

        Args:
            cause: why, in one line.
            of_input: the image or the row cannot be used; otherwise a model call failed.

        Raises:
            ModelError: too many of the last calls failed; the text names the most frequent cause.
            InputError: too much of the input cannot be used; the text names the most frequent cause.
        """
        self._last.append((cause, of_input))
        causes = [text for text, input_ in self._last if text and input_ == of_input]
        if len(causes) < self._most:
            return
        groups = Counter(_NAMES.sub("…", text) if of_input else text for text in causes)
        often, times = groups.most_common(1)[0]
        most = "all of them" if times == len(causes) else f"{times} of them"
        seen = f"stopped: {len(causes)} of the last {len(self._last)} attempts failed"
        if of_input:
            raise InputError(f"{seen} because of their input, {most}: {often}; the last one: {cause}")
        raise ModelError(
            f"{seen}, {most}: {often}; fix this and run the same command again, which continues the run",
            kind="overloaded",
        )
