"""`p2r serve` as a process: a real port, a real signal, a model server behind it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
from live_server import BOXES, KEY, THOUGHT, body, wait_until
from typer.testing import CliRunner

from p2r.cli import app
from servers import Server, reply, slow

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-m", "p2r", "serve", "--port", "0"]


def test_it_serves_and_on_sigterm_finishes_what_it_accepted(tmp_path: Path) -> None:
    log = tmp_path / "log"
    keys = tmp_path / "keys"
    keys.write_text(KEY)
    with Server([reply(BOXES), slow(1.0, reply(THOUGHT))]) as behind, log.open("wb") as out:
        command = [*COMMAND, "--model", f"{behind.url}#served", "--api-key-file", str(keys)]
        process = subprocess.Popen(command, stderr=out)
        try:
            wait_until(lambda: re.search(r"listening on \S+:(\d+)", log.read_text()), 60)
            port = re.search(r"listening on \S+:(\d+)", log.read_text())[1]

            def ask() -> httpx.Response:
                url = f"http://127.0.0.1:{port}/v1/chat/completions"
                headers = {"Authorization": f"Bearer {KEY}"}
                return httpx.post(url, json=body(), headers=headers, timeout=60, trust_env=False)

            with ThreadPoolExecutor(1) as pool:
                asked = pool.submit(ask)
                wait_until(lambda: len(behind.requests) == 2, 60)
                process.send_signal(signal.SIGTERM)
                answered = asked.result()
            assert answered.status_code == 200
            assert answered.json()["choices"][0]["message"]["content"] == "B. red"
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
    assert KEY not in log.read_text()
    assert "status 200" in log.read_text()


def test_it_does_not_listen_to_others_without_a_key() -> None:
    run = CliRunner().invoke(app, ["serve", "--host", "0.0.0.0", "--model", "http://127.0.0.1:9/v1#x"])
    assert run.exit_code == 2
    (line,) = run.stderr.splitlines()
    assert "--api-key-file" in line
