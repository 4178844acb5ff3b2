"""A scripted OpenAI-compatible endpoint with almost no cost, in a separate process.

    python benchmarks/scripted_endpoint.py --delay 0.2      # prints its URL and serves until it is ended

It answers a request for boxes with one box in the middle, and anything else with the letter A, after a delay.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BOXES = '[{"bbox_2d": [450, 450, 550, 550], "label": "middle"}]'
ANSWER = "<think>It is the first.</think><answer>A</answer>"


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    delay_s = 0.0

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing."""

    def do_GET(self) -> None:
        """The list of models."""
        self._send({"object": "list", "data": [{"id": "scripted", "object": "model"}]})

    def do_POST(self) -> None:
        """A completion."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(self.delay_s)
        message = {"role": "assistant", "content": BOXES if b"bbox_2d" in body else ANSWER}
        self._send(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": "scripted",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
            }
        )

    def _send(self, data: object) -> None:
        body = json.dumps(data).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """A thread for each connection, and room for a burst of them."""

    daemon_threads = True
    request_queue_size = 512


@contextmanager
def scripted_endpoint(delay_s: float = 0.0) -> Iterator[str]:
    """Start one; gives its spec for `open_model`."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--delay", str(delay_s)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    try:
        yield f"{process.stdout.readline().strip()}#scripted"
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each reply")
    Handler.delay_s = parser.parse_args().delay
    server = Server(("127.0.0.1", 0), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}/v1", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
