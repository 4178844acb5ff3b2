"""A fake Python with vLLM: takes the arguments of its server and answers like it.

What it does is decided by words in P2R_FAKE_VLLM: `die` (after some output), `deaf` (ignores SIGTERM),
`slow` (healthy after half a second), `child` (starts a process that would outlive it).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

arguments = sys.argv[1:]
assert arguments[:3] == ["-m", "vllm.entrypoints.openai.api_server", "--model"], arguments
behavior = os.environ.get("P2R_FAKE_VLLM", "").split()
options = dict(zip(arguments[4::2], arguments[5::2], strict=False))
notes = Path(os.environ["P2R_FAKE_VLLM_NOTES"])
started = time.monotonic()


def note(**more: object) -> None:
    with notes.open("a") as file:
        file.write(json.dumps({"pid": os.getpid(), "arguments": arguments, **more}) + "\n")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        print("served", self.path, flush=True)

    def send(self, code: int, data: object) -> None:
        raw = json.dumps(data).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(raw)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(raw)

    def do_GET(self) -> None:
        ready = "slow" not in behavior or time.monotonic() - started > 0.5
        self.send(200 if ready else 503, {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "crash" in body["messages"][0]["content"]:
            print("RuntimeError: the engine core is gone", flush=True)
            os._exit(7)
        if self.headers["Authorization"] != f"Bearer {os.environ['VLLM_API_KEY']}":
            self.send(401, {"error": {"message": "wrong key"}})
            return
        message = {"role": "assistant", "content": f"{body['model']} says hello"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self.send(200, {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 3}})


if "die" in behavior:
    print("loading weights\nValueError: no such architecture", flush=True)
    sys.exit(3)
if "deaf" in behavior:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "600"]).pid if "child" in behavior else 0
note(child=child, gpus=os.environ.get("CUDA_VISIBLE_DEVICES"))
ThreadingHTTPServer((options["--host"], int(options["--port"])), Handler).serve_forever()
