"""Cancelled image work ends soon, and no other work waits behind it."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest
import pyvips

from p2r import P2R, Question
from p2r.images import ImageSource
from p2r.images.limits import decoding
from p2r.images.threads import in_image_thread, raise_if_cancelled
from tests.fake_model import FakeModel
from tests.image_files import smooth
from tests.images.test_limits import until


@pytest.fixture(scope="module")
def large() -> bytes:
    """A PNG of 576 megapixels, which takes long to decode."""
    return pyvips.Image.black(24_000, 24_000).copy(interpretation="b-w").pngsave_buffer(compression=1)


async def cancelled(task: asyncio.Task[object]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_work_is_cancelled_between_its_steps() -> None:
    ended: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                time.sleep(0.005)
                raise_if_cancelled()
        except BaseException as error:
            ended.append(error)
            raise

    async def main() -> None:
        task = asyncio.create_task(in_image_thread(work))
        await asyncio.sleep(0.05)
        await cancelled(task)

    asyncio.run(main())
    until(lambda: len(ended) == 1)
    assert type(ended[0]).__name__ == "Cancelled"


def test_a_result_and_an_error_come_back() -> None:
    assert asyncio.run(in_image_thread(divmod, 7, 2)) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(in_image_thread(divmod, 7, 0))
    raise_if_cancelled()  # nothing happens outside of such work


@pytest.mark.parametrize("what", ["overview", "crop"])
def test_a_decode_that_is_cancelled_ends_before_it_is_done(large: bytes, what: str) -> None:
    def decode() -> float:
        source = ImageSource.open(large)
        started = time.perf_counter()
        if what == "overview":
            source.overview((640, 640))
        else:
            source.region((100, 23_900, 164, 23_964), (64, 64))
        return time.perf_counter() - started

    seconds = decode()

    async def cancel() -> float:
        task = asyncio.create_task(in_image_thread(decode))
        while not decoding.held:  # noqa: ASYNC110 - set by a thread
            await asyncio.sleep(0.001)
        await cancelled(task)
        since = time.perf_counter()
        await asyncio.to_thread(until, lambda: decoding.held == 0)
        return time.perf_counter() - since

    assert asyncio.run(cancel()) < seconds / 2


def test_questions_that_were_cancelled_leave_no_decode_behind(large: bytes) -> None:
    async def main() -> str | None:
        async with P2R(FakeModel(["[]", "<answer>A</answer>"])) as p2r:
            hostile = [
                asyncio.create_task(p2r.predict(Question(large, "What?", ("a", "b"), "choice")))
                for _ in range(40)
            ]
            while not decoding.held:  # noqa: ASYNC110 - set by a thread
                await asyncio.sleep(0.001)
            for task in hostile:
                await cancelled(task)
            honest = await asyncio.wait_for(
                p2r.predict(Question(np.ascontiguousarray(smooth()), "What?", ("a", "b"), "choice")), 10
            )
            return honest.answer

    assert asyncio.run(main()) == "A"
    until(lambda: decoding.held == decoding.waiting == 0)
