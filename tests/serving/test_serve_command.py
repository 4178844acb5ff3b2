"""`p2r serve` as a process, with a real port, real signals and a model server."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest
from typer.testing import CliRunner

from p2r.cli import app
from p2r.errors import InputError
from p2r.serving.config import ServingConfig
from p2r.serving.server import bind
from tests.servers import Server, reply, slow
from tests.serving.live_server import BOXES, KEY, THOUGHT, body, wait_until

if TYPE_CHECKING:
    from pathlib import Path


def port_of(log: Path) -> str:
    """The port of a server that starts, from its log."""
    wait_until(lambda: "listening on " in log.read_text(), 200)
    found = re.search(r"listening on \S+:(\d+)", log.read_text())
    assert found
    return found[1]


COMMAND = [sys.executable, "-m", "p2r", "serve", "--port", "0", "--no-ui"]


@pytest.mark.parametrize("sent", [signal.SIGINT, pytest.param(signal.SIGHUP, marks=pytest.mark.long)])
def test_it_serves_and_on_a_signal_says_so_and_finishes_what_it_accepted(
    tmp_path: Path, sent: signal.Signals
) -> None:
    log = tmp_path / "log"
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    with Server([reply(BOXES), slow(1.5, reply(THOUGHT))]) as behind, log.open("wb") as out:
        command = [*COMMAND, "--model", f"{behind.url}#served", "--api-key-file", str(keys)]
        process = subprocess.Popen(command, stderr=out)
        try:
            port = port_of(log)

            def ask() -> httpx.Response:
                url = f"http://127.0.0.1:{port}/v1/chat/completions"
                headers = {"Authorization": f"Bearer {KEY}"}
                return httpx.post(url, json=body(), headers=headers, timeout=60, trust_env=False)

            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(ask)
                wait_until(lambda: len(behind.requests) == 2, 60)
                # What is printed for people is the port that was taken.
                assert f"the base URL of clients is http://127.0.0.1:{port}/v1" in log.read_text()
                process.send_signal(sent)
                wait_until(lambda: "stopping: up to 30 s for 1 request;" in log.read_text(), 0.9)
                assert not asked.done()
                answered = asked.result()
            assert answered.status_code == 200
            assert answered.json()["choices"][0]["message"]["content"] == "B. red"
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
    assert KEY not in log.read_text()
    assert "status 200" in log.read_text()


def test_the_port_is_taken_before_the_model_is_loaded(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        # There is no such model: to open it is another error.
        command = ["serve", "--port", str(port), "--model", str(tmp_path / "none")]
        run = CliRunner().invoke(app, command)
    assert run.exit_code == 2
    (line,) = run.stderr.splitlines()
    assert line.startswith(f"error: cannot listen on 127.0.0.1:{port}: the port is in use: stop what uses it")


def test_an_address_of_another_machine_is_refused() -> None:
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(InputError, match=f"cannot listen on {host}"):
            bind(ServingConfig(host=host, port=0, api_keys=(KEY,)))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_port_0_is_a_free_port_and_is_logged(host: str) -> None:
    sockets = bind(ServingConfig(host=host, port=0))
    ports = {bound.getsockname()[1] for bound in sockets}
    for bound in sockets:
        bound.close()
    assert len(ports) == 1
    assert 0 not in ports


@pytest.mark.long
def test_sigterm_under_load_answers_or_refuses_every_request(tmp_path: Path) -> None:
    # Both roles can read it. Four at once, two calls each: not all are done in time.
    both = f"{BOXES} {THOUGHT}"
    log = tmp_path / "log"
    with Server([slow(0.5, reply(both))]) as behind, log.open("wb") as out:
        options = ["--concurrency", "4", "--queue", "60", "--drain", "3"]
        process = subprocess.Popen([*COMMAND, *options, "--model", f"{behind.url}#served"], stderr=out)
        try:
            port = port_of(log)

            def ask(_: int) -> tuple[int, str]:
                url = f"http://127.0.0.1:{port}/v1/chat/completions"
                try:
                    answered = httpx.post(url, json=body(), timeout=120, trust_env=False)
                except httpx.ConnectError:
                    return 0, "it was not let in"
                return answered.status_code, answered.text

            with ThreadPoolExecutor(40) as pool:
                asked = [pool.submit(ask, number) for number in range(40)]
                wait_until(lambda: len(behind.requests) >= 6, 60)
                process.send_signal(signal.SIGTERM)
                answers = [each.result(120) for each in asked]
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
    right = [text for status, text in answers if status == 200 and "B. red" in text]
    sent_away = [text for status, text in answers if "shutting_down" in text]
    assert {status for status, _ in answers} <= {0, 200, 503}
    assert right
    assert sent_away
    others = [answer for answer in answers if answer[0] and answer[1] not in (*right, *sent_away)]
    assert others == []


def test_it_does_not_listen_to_others_without_a_key() -> None:
    run = CliRunner().invoke(app, ["serve", "--host", "0.0.0.0", "--model", "http://127.0.0.1:9/v1#x"])
    assert run.exit_code == 2
    (line,) = run.stderr.splitlines()
    assert "--api-key-file" in line
