"""When a run stops: failed calls and unusable input are counted separately."""

from __future__ import annotations

import pytest

from p2r.errors import InputError, ModelError
from p2r.runs.failures import FailureMonitor


def test_calls_that_fail_stop_a_run_with_the_most_frequent_cause() -> None:
    health = FailureMonitor(most_failures=3, window=5)
    health.note_failure("http://a/v1: HTTP 500")
    health.note_success()
    health.note_failure("http://a/v1: timeout")
    with pytest.raises(
        ModelError, match=r"3 of the last 4 attempts failed, 2 of them: http://a/v1: HTTP 500;"
    ):
        health.note_failure("http://a/v1: HTTP 500")


def test_input_that_cannot_be_used_is_no_failed_model_and_its_causes_are_grouped() -> None:
    health = FailureMonitor(most_failures=5, window=5)
    health.note_failure("/data/my cat/1.jpg: the file is empty (0 bytes)", of_input=True)
    health.note_failure("row 7: column 'image': no image 'x.png' in /data", of_input=True)
    health.note_failure("2.jpg: the file is empty (0 bytes)", of_input=True)
    health.note_failure("/data/3.webp: the file is empty (0 bytes)", of_input=True)
    with pytest.raises(
        InputError,
        match=r"5 of the last 5 attempts failed because of their input, 3 of them: …: the file is empty …; "
        r"the last one: row 9: column 'image': no image 'y.png' in /data$",
    ):
        health.note_failure("row 9: column 'image': no image 'y.png' in /data", of_input=True)


def test_the_two_kinds_are_counted_separately() -> None:
    health = FailureMonitor(most_failures=3, window=10)
    for _ in range(2):
        health.note_failure("a.jpg: damaged", of_input=True)
        health.note_failure("timeout")
    with pytest.raises(ModelError, match="3 of the last 5 attempts failed, all of them: timeout"):
        health.note_failure("timeout")


def test_old_failures_are_forgotten() -> None:
    health = FailureMonitor(most_failures=2, window=2)
    for _ in range(5):
        health.note_failure("timeout")
        health.note_success()


@pytest.mark.parametrize("most", [0, 6])
def test_limits_that_make_no_sense(most: int) -> None:
    with pytest.raises(InputError, match="at most 5 of 5 attempts can fail"):
        FailureMonitor(most_failures=most, window=5)
