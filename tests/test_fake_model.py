"""The scripted model behaves as other tests expect."""

from __future__ import annotations

import asyncio

import pytest

from p2r.errors import ModelError
from p2r.models.base import Completion, Message, Model, Sampling, StreamingModel
from tests.fake_model import FakeModel, StreamingFakeModel, failure

ASK = (Message("user", ("how many?",)),)


def test_it_is_a_model() -> None:
    assert isinstance(FakeModel([]), Model)
    assert not isinstance(FakeModel([]), StreamingModel)
    assert isinstance(StreamingFakeModel([]), StreamingModel)


def test_a_list_is_used_up_in_the_order_of_the_calls() -> None:
    model = FakeModel(["one", failure("timeout"), Completion("cut", 7, 3, "length")])
    assert asyncio.run(model.complete(ASK, Sampling(8))) == Completion("one", 2, 1, "stop")
    with pytest.raises(ModelError) as caught:
        asyncio.run(model.complete(ASK, Sampling(8)))
    assert caught.value.kind == "timeout"
    assert asyncio.run(model.complete(ASK, Sampling(8))).finish_reason == "length"
    with pytest.raises(AssertionError, match="call 4, but 3"):
        asyncio.run(model.complete(ASK, Sampling(8)))
    assert [call.text for call in model.calls] == ["how many?"] * 4


def test_calls_in_flight_and_cancelled_ones_are_counted() -> None:
    model = FakeModel(lambda messages: "reply", delay_s=30)

    async def run() -> None:
        tasks = [asyncio.create_task(model.complete(ASK, Sampling(8))) for _ in range(3)]
        await asyncio.sleep(0)
        assert model.in_flight == 3
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    assert (model.in_flight, model.most_in_flight, model.cancelled) == (0, 3, 3)


def test_the_pieces_of_a_stream_make_its_completion() -> None:
    async def run() -> list[str | Completion]:
        return [piece async for piece in StreamingFakeModel(["a longer reply"]).stream(ASK, Sampling(8))]

    *pieces, last = asyncio.run(run())
    assert isinstance(last, Completion)
    assert len(pieces) > 1
    assert "".join(str(piece) for piece in pieces) == last.text
