"""Stops a run that has nothing to gain from going on: a server that is down is not a model that is wrong."""

from __future__ import annotations

from collections import Counter, deque

from p2r.errors import InputError, ModelError

WINDOW = 50
MOST_FAILURES = 10


class Health:
    """Watches the last attempts.

    Args:
        most_failures: the run stops when as many of the last `window` attempts failed.
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
        self._last: deque[str] = deque(maxlen=window)

    def note_success(self) -> None:
        """One attempt gave an answer, right or wrong."""
        self._last.append("")

    def note_failure(self, cause: str) -> None:
        """One attempt failed.

        Raises:
            ModelError: too many of the last attempts failed; the text names the most frequent cause.
        """
        self._last.append(cause)
        causes = Counter(cause for cause in self._last if cause)
        failed = causes.total()
        if failed >= self._most:
            often, times = causes.most_common(1)[0]
            most = "all of them" if times == failed else f"{times} of them"
            raise ModelError(
                f"stopped: {failed} of the last {len(self._last)} attempts failed, {most}: {often}; "
                "see to it and run the same command again: it goes on where it stopped",
                kind="overloaded",
            )
