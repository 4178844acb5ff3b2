"""Load: the bounded queue, deadlines, draining, and metrics."""

from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import httpx

from p2r.models.base import Completion
from tests.fake_model import FakeModel
from tests.serving.live_server import LiveServer, body, both_roles, refused, wait_until


class Gate(FakeModel):
    """A model that answers when the gate is opened."""

    def __init__(self) -> None:
        super().__init__(lambda _: "<answer>B</answer>")
        self.opened = threading.Event()

    async def _wait(self) -> None:
        import asyncio

        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            while not self.opened.is_set():  # noqa: ASYNC110  (it is opened in another thread)
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight -= 1


THINK = body(model="p2r-think")


def asked(pool: ThreadPoolExecutor, server: LiveServer, count: int) -> list[Future[httpx.Response]]:
    return [
        pool.submit(httpx.post, f"{server.url}/v1/chat/completions", json=THINK, timeout=30, trust_env=False)
        for _ in range(count)
    ]


def accepts_connections(server: LiveServer) -> bool:
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
    except OSError:
        return False
    return True


def test_beyond_the_queue_requests_are_refused_and_the_server_recovers_at_once() -> None:
    model = Gate()
    with ThreadPoolExecutor(5) as pool, LiveServer(model, concurrency=2, queue=3) as server:
        waiting = asked(pool, server, 5)
        wait_until(lambda: server.app.state.limiter.queued == 3)
        wait_until(lambda: model.in_flight == 2)
        reply = server.ask(THINK)
        refused(reply, 429, code="queue_full")
        assert 1 <= int(reply.headers["Retry-After"]) <= 60
        metrics = server.http.get("/metrics").text
        assert "p2r_running 2.0" in metrics
        assert "p2r_queued 3.0" in metrics
        model.opened.set()
        assert [future.result().status_code for future in waiting] == [200] * 5
        assert model.most_in_flight == 2
        assert server.ask(THINK).status_code == 200


def test_a_request_has_a_deadline_and_its_work_ends_with_it() -> None:
    model = Gate()
    with LiveServer(model, timeout_s=0.3) as server:
        refused(server.ask(THINK), 504, code="deadline")
        assert model.cancelled == 1
        model.opened.set()
        assert server.ask(THINK).status_code == 200


def test_the_end_lets_accepted_requests_finish() -> None:
    model = Gate()
    with ThreadPoolExecutor(4) as pool, LiveServer(model, concurrency=2, queue=2) as server:
        waiting = asked(pool, server, 4)
        wait_until(lambda: server.app.state.limiter.accepted == 4)
        server.end()
        wait_until(lambda: not accepts_connections(server))
        model.opened.set()
        assert [future.result().status_code for future in waiting] == [200] * 4
        server.join()


def test_what_is_not_done_in_time_gets_a_clear_503() -> None:
    model = Gate()
    with ThreadPoolExecutor(3) as pool, LiveServer(model, concurrency=1, queue=2, drain_s=0.2) as server:
        waiting = asked(pool, server, 3)
        wait_until(lambda: server.app.state.limiter.accepted == 3)
        server.end()
        begin_s = time.monotonic()
        for future in waiting:
            refused(future.result(), 503, code="shutting_down")
        # Told in time, not cut off by force, which comes 15 s later.
        assert time.monotonic() - begin_s < 10
        server.join()
    assert model.cancelled == 1


def test_metrics_count_what_happened() -> None:
    model = both_roles(Completion("<answer>B</answer>", 20, 3, "stop"), Completion("[]", 10, 1, "stop"))
    with LiveServer(model) as server:
        server.ask()
        server.ask(body(n=2))
        metrics = server.http.get("/metrics").text
    for line in (
        'p2r_requests_total{status="200"} 1.0',
        'p2r_requests_total{status="400"} 1.0',
        'p2r_outcomes_total{mode="p2r",perception="whole",status="answered"} 1.0',
        'p2r_stage_seconds_count{stage="reason"} 1.0',
        'p2r_tokens_total{kind="prompt"} 30.0',
        'p2r_tokens_total{kind="completion"} 4.0',
        "p2r_model_calls_total 2.0",
        "p2r_running 0.0",
    ):
        assert line in metrics, line
