"""The request queue, with engines that are plain functions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import pytest

from p2r.errors import ModelError
from p2r.models.base import Completion, Sampling
from p2r.models.batching import Batcher, Request, complete_halving

GREEDY = Sampling(8)
Engine = Callable[[Sequence[Request[str]]], Sequence[Completion | ModelError]]


def echo(requests: Sequence[Request[str]]) -> list[Completion]:
    return [Completion(request.item, 1, 1, "stop") for request in requests]


class Gate:
    """An engine that records its batches and holds each until it is released."""

    def __init__(self, engine: Engine = echo) -> None:
        self.batches: list[list[str]] = []
        self.running: list[Request[str]] = []
        self.entered = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self._engine = engine

    def __call__(self, requests: Sequence[Request[str]]) -> Sequence[Completion | ModelError]:
        self.batches.append([request.item for request in requests])
        self.running = list(requests)
        self.entered.release()
        assert self.go.acquire(timeout=10)
        return self._engine(requests)

    async def wait(self) -> None:
        assert await asyncio.to_thread(self.entered.acquire, timeout=10)


def run(
    engine: Engine, work: Callable[[Batcher[str]], Coroutine[Any, Any, None]], *, max_batch: int = 4
) -> None:
    batcher = Batcher(engine, max_batch=max_batch, name="engine")
    try:
        asyncio.run(work(batcher))
    finally:
        batcher.close()


def start(batcher: Batcher[str], *items: str, sampling: Sampling = GREEDY) -> list[asyncio.Task[Completion]]:
    return [asyncio.create_task(batcher.submit(item, sampling)) for item in items]


def test_requests_that_wait_together_run_together() -> None:
    gate = Gate()

    async def work(batcher: Batcher[str]) -> None:
        first = start(batcher, "a")
        await gate.wait()
        rest = start(batcher, *"bcdef")
        await asyncio.sleep(0)
        gate.go.release(3)
        assert [completion.text for completion in await asyncio.gather(*first, *rest)] == list("abcdef")

    run(gate, work)
    assert gate.batches == [["a"], ["b", "c", "d", "e"], ["f"]]


def test_requests_that_come_together_run_together() -> None:
    def batches() -> list[list[str]]:
        gate = Gate()
        gate.go.release(10)

        async def work(batcher: Batcher[str]) -> None:
            await asyncio.gather(*start(batcher, *"abcd"))

        run(gate, work)
        return gate.batches

    # The first request waits for 5 ms, in which a busy machine may not run this thread.
    assert any(batches() == [["a", "b", "c", "d"]] for _ in range(5))


def test_a_batch_shares_its_sampling_but_not_its_seeds() -> None:
    gate = Gate()

    async def work(batcher: Batcher[str]) -> None:
        tasks = start(batcher, "hold")
        await gate.wait()
        tasks += start(batcher, "a", sampling=Sampling(8, temperature=1, seed=1))
        tasks += start(batcher, "b", sampling=Sampling(9))
        tasks += start(batcher, "c", sampling=Sampling(8, temperature=1, seed=2))
        await asyncio.sleep(0)
        gate.go.release(3)
        await asyncio.gather(*tasks)

    run(gate, work)
    assert gate.batches == [["hold"], ["a", "c"], ["b"]]


def test_a_cancelled_request_leaves_the_queue() -> None:
    gate = Gate()

    async def work(batcher: Batcher[str]) -> None:
        first, second, third = start(batcher, "a"), start(batcher, "b"), start(batcher, "c")
        await gate.wait()
        gate.go.release(1)
        await first[0]
        await gate.wait()
        second[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await second[0]
        late = start(batcher, "d")
        await asyncio.sleep(0)
        # While the engine still holds "b": once that ends, it takes whatever waits.
        third[0].cancel()
        await asyncio.wait(third)
        gate.go.release(5)
        assert (await late[0]).text == "d"

    run(gate, work, max_batch=1)
    assert gate.batches == [["a"], ["b"], ["d"]]


def test_the_engine_sees_that_a_running_request_was_cancelled() -> None:
    gate = Gate()

    async def work(batcher: Batcher[str]) -> None:
        tasks = start(batcher, "a", "b")
        await gate.wait()
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        assert [request.abandoned for request in gate.running] == [True, False]
        gate.go.release()
        assert (await tasks[1]).text == "b"

    run(gate, work)


def test_an_exception_fails_its_batch_and_the_thread_continues() -> None:
    def engine(requests: Sequence[Request[str]]) -> list[Completion]:
        if any(request.item == "bad" for request in requests):
            raise RuntimeError("shapes do not\nmatch")
        return echo(requests)

    async def work(batcher: Batcher[str]) -> None:
        failed = await asyncio.gather(*start(batcher, "bad", "beside"), return_exceptions=True)
        for error in failed:
            assert isinstance(error, ModelError)
            assert error.kind == "internal"
            assert str(error) == "engine: the engine failed: RuntimeError: shapes do not match"
            assert isinstance(error.__cause__, RuntimeError)
        assert (await batcher.submit("good", GREEDY)).text == "good"

    run(engine, work)


def test_a_model_error_of_the_engine_is_passed_on() -> None:
    def engine(requests: Sequence[Request[str]]) -> list[Completion]:
        raise ModelError("too long", kind="rejected")

    async def work(batcher: Batcher[str]) -> None:
        with pytest.raises(ModelError, match="too long") as caught:
            await batcher.submit("a", GREEDY)
        assert caught.value.kind == "rejected"

    run(engine, work)


def test_out_of_memory_halves_the_batch() -> None:
    sizes: list[int] = []

    def engine(requests: Sequence[Request[str]]) -> list[Completion]:
        sizes.append(len(requests))
        if len(requests) > 2:
            raise MemoryError
        return echo(requests)

    requests = [Request(item, GREEDY) for item in "abcdefgh"]
    assert complete_halving(engine, requests, "engine") == echo(requests)
    assert sizes == [8, 4, 2, 2, 4, 2, 2]


def test_out_of_memory_for_a_single_request_says_what_to_do() -> None:
    def engine(requests: Sequence[Request[str]]) -> list[Completion | ModelError]:
        def run(batch: Sequence[Request[str]]) -> list[Completion]:
            if any(request.item == "large" for request in batch):
                raise MemoryError
            return echo(batch)

        return complete_halving(run, requests, "engine")

    async def work(batcher: Batcher[str]) -> None:
        large, *others = await asyncio.gather(*start(batcher, "large", "b", "c"), return_exceptions=True)
        assert isinstance(large, ModelError)
        assert large.kind == "internal"
        assert "lower the pixel budget" in str(large)
        assert [isinstance(other, Completion) for other in others] == [True, True]

    run(engine, work)


def test_closing_finishes_what_runs_and_fails_what_waits() -> None:
    gate = Gate()

    async def work(batcher: Batcher[str]) -> None:
        running = start(batcher, "a")
        await gate.wait()
        waiting = start(batcher, "b")
        await asyncio.sleep(0)
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        with pytest.raises(ModelError, match="was closed"):
            await waiting[0]
        gate.go.release()
        assert (await running[0]).text == "a"
        await closing
        batcher.close()
        with pytest.raises(ModelError, match="was closed"):
            await batcher.submit("c", GREEDY)

    run(gate, work)


def test_one_batcher_serves_several_event_loops() -> None:
    batcher = Batcher(echo, max_batch=4, name="engine")
    for item in "abc":
        assert asyncio.run(batcher.submit(item, GREEDY)).text == item
    batcher.close()
