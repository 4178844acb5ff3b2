"""The memory budget: order, bounds, and threads whose work was cancelled."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest

from p2r.images.limits import MemoryBudget
from p2r.images.threads import in_image_thread

if TYPE_CHECKING:
    from collections.abc import Callable


def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def reserve_in_thread(budget: MemoryBudget, nbytes: int, done: list[int], release: threading.Event) -> None:
    def run() -> None:
        with budget.reserve(nbytes):
            done.append(nbytes)
            release.wait(10)

    waiting = budget.waiting
    served = len(done)
    threading.Thread(target=run, daemon=True).start()
    until(lambda: budget.waiting > waiting or len(done) > served)


def test_bytes_are_held_until_they_are_released_once() -> None:
    budget = MemoryBudget(100)
    held = budget.reserve(60)
    assert budget.held == 60
    held.release()
    held.release()
    assert budget.held == 0
    with budget.reserve(100):
        assert budget.held == 100
    assert budget.held == 0


def test_bytes_are_given_back_when_the_work_fails() -> None:
    budget = MemoryBudget(100)
    with pytest.raises(ZeroDivisionError), budget.reserve(60):
        _ = 1 / 0
    assert budget.held == 0


def test_reservations_are_served_in_the_order_of_arrival() -> None:
    budget, done, release = MemoryBudget(100), list[int](), threading.Event()
    first = budget.reserve(50)
    reserve_in_thread(budget, 80, done, release)
    reserve_in_thread(budget, 20, done, release)  # would fit now, and must not overtake
    assert (done, budget.waiting) == ([], 2)
    first.release()
    until(lambda: done == [80, 20])
    assert budget.held == 100
    release.set()
    until(lambda: budget.held == 0)


def test_more_than_the_bound_is_given_only_alone() -> None:
    budget, done, release = MemoryBudget(100), list[int](), threading.Event()
    first = budget.reserve(1)
    reserve_in_thread(budget, 500, done, release)
    reserve_in_thread(budget, 1, done, release)
    assert done == []
    first.release()
    until(lambda: done == [500])
    time.sleep(0.05)
    assert done == [500]
    release.set()
    until(lambda: done == [500, 1])


def test_trying_never_waits_and_never_overtakes() -> None:
    budget, done, release = MemoryBudget(100), list[int](), threading.Event()
    first = budget.try_reserve(60)
    assert first is not None
    assert budget.try_reserve(41) is None
    assert budget.try_reserve(101) is None
    second = budget.try_reserve(40)
    assert second is not None
    assert budget.held == 100
    second.release()
    reserve_in_thread(budget, 90, done, release)
    assert budget.try_reserve(1) is None
    release.set()
    first.release()
    until(lambda: done == [90] and budget.held == 0)
    with budget.try_reserve(100) or pytest.fail("all of it is free"):
        assert budget.held == 100


def test_a_cancelled_thread_leaves_the_queue() -> None:
    budget = MemoryBudget(100)
    held = budget.reserve(100)

    async def cancel() -> None:
        task = asyncio.create_task(in_image_thread(budget.reserve, 10))
        await asyncio.to_thread(until, lambda: budget.waiting)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    until(lambda: budget.waiting == 0)
    assert budget.held == 100
    held.release()
    with budget.reserve(100):
        assert budget.held == 100


def test_many_threads_never_hold_more_than_the_bound() -> None:
    budget = MemoryBudget(1000)
    most: list[int] = []

    def run(seed: int) -> None:
        for step in range(50):
            with budget.reserve((seed * 131 + step * 37) % 900 + 1):
                most.append(budget.held)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 400
    assert max(most) <= 1000
    assert budget.held == budget.waiting == 0
