"""A model behind the OpenAI protocol that answers one call at a time: the baseline of `training.py`.

    python benchmarks/frozen_server.py CHECKPOINT     # prints its address

No batching, no queue, no limits: a reward that makes one call after the other needs none.
"""

from __future__ import annotations

import asyncio
import base64
import io
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import numpy as np
import PIL.Image

from p2r.images import EncodedImage
from p2r.models.base import Completion, Message, Sampling
from p2r.models.local import LocalModel


def main() -> None:
    server = HTTPServer(("127.0.0.1", 0), handler(LocalModel(sys.argv[1], max_batch=1)))
    print(f"http://127.0.0.1:{server.server_port}/v1", flush=True)
    server.serve_forever()


def handler(model: LocalModel) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            limit = asked.get("max_tokens") or asked.get("max_completion_tokens")
            completion = asyncio.run(model.complete(read_messages(asked["messages"]), Sampling(limit)))
            body = json.dumps(reply(completion)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    return Handler


def read_messages(turns: list[dict[str, Any]]) -> list[Message]:
    return [
        Message(
            turn["role"],
            (turn["content"],)
            if isinstance(turn["content"], str)
            else tuple(map(read_part, turn["content"])),
        )
        for turn in turns
    ]


def read_part(entry: dict[str, Any]) -> str | EncodedImage:
    if entry["type"] == "text":
        return str(entry["text"])
    data = base64.b64decode(entry["image_url"]["url"].partition(",")[2])
    return EncodedImage(np.array(PIL.Image.open(io.BytesIO(data)).convert("RGB")))


def reply(completion: Completion) -> dict[str, Any]:
    tokens = {"prompt_tokens": completion.prompt_tokens, "completion_tokens": completion.completion_tokens}
    choice = {
        "index": 0,
        "finish_reason": completion.finish_reason,
        "message": {"role": "assistant", "content": completion.text},
    }
    return {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "frozen",
        "choices": [choice],
        "usage": {**tokens, "total_tokens": sum(tokens.values())},
    }


if __name__ == "__main__":
    main()
