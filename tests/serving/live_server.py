"""A real server in a thread on a loopback port, with a scripted model; and requests of clients."""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
from openai import OpenAI

from p2r.pipeline import P2R
from p2r.serving.app import create_app
from p2r.serving.config import ServingConfig
from p2r.serving.server import DrainingServer
from p2r.settings import PixelBudget, Settings
from tests.fake_model import FakeModel, said
from tests.image_files import encoded, smooth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.models.base import Message, Model
    from p2r.serving.fetching import ImageFetcher
    from tests.fake_model import Reply

BOXES = (
    '[{"bbox_2d": [100, 200, 150, 260], "label": "bus"}, {"bbox_2d": [700, 700, 760, 780], "label": "sign"}]'
)
THOUGHT = "<think>The bus is red, the sign says so.</think><answer>B</answer>"
KEY = "a-key-of-sufficient-length"
SETTINGS = Settings(
    budget=PixelBudget(overview_max_pixels=64 * 1024, crop_max_pixels=64 * 1024, min_pixels=16 * 1024)
)
IMAGE = encoded(smooth(400, 300), "JPEG")


def data_uri(data: bytes, mime: str = "image/jpeg") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


IMAGE_URI = data_uri(IMAGE)
CHOICES = "Which color is the bus?\nA. blue\nB. red"


def perceiving(messages: Sequence[Message]) -> bool:
    return "JSON list of boxes" in said(messages)


def both_roles(
    thought: Reply = THOUGHT, boxes: Reply = BOXES, kind: type[FakeModel] = FakeModel, **more: Any
):
    return kind(lambda messages: boxes if perceiving(messages) else thought, **more)


def user(text: str = CHOICES, url: str = IMAGE_URI) -> dict[str, Any]:
    image = {"type": "image_url", "image_url": {"url": url}}
    return {"role": "user", "content": [image, {"type": "text", "text": text}]}


def body(text: str = CHOICES, url: str = IMAGE_URI, **more: Any) -> dict[str, Any]:
    return {"model": "p2r", "messages": [user(text, url)], **more}


def gray(width: int, height: int) -> np.ndarray:
    return np.full((height, width, 3), 128, np.uint8)


class LiveServer:
    """Serves until the `with` block ends; `ask` posts a question."""

    def __init__(
        self,
        model: Model | str | None = None,
        *,
        settings: Settings | None = SETTINGS,
        reasoner: FakeModel | None = None,
        fetcher: ImageFetcher | None = None,
        **config: Any,
    ) -> None:
        self.model: Any = model or both_roles()
        self.config = ServingConfig(**{"port": 0, **config})
        self._p2r = P2R(self.model, reasoner=reasoner, settings=settings)
        self._fetcher = fetcher
        self.server: Any = None
        self._socket = socket.create_server(("127.0.0.1", self.config.port))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        # Made where it runs, as `p2r serve` does it.
        self.app = create_app(self._p2r, self.config, self._fetcher)
        self.server = DrainingServer(self.app, self.config)
        await self.server.serve(sockets=[self._socket])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> LiveServer:
        self._thread.start()
        wait_until(lambda: self.server and self.server.started, 300)
        self.http = httpx.Client(base_url=self.url, timeout=30, trust_env=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.end()
        self.join()
        self._p2r.close()

    def end(self) -> None:
        """What SIGTERM does."""
        self.server.should_exit = True

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive(), "the server did not end"

    def ask(self, json: dict[str, Any] | None = None, **more: Any) -> httpx.Response:
        return self.http.post("/v1/chat/completions", json=body() if json is None else json, **more)

    def openai(self, key: str = "none") -> Any:
        # Its types know neither plain dictionaries nor our own fields.
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=30)


def wait_until(happened: Any, within_s: float = 20.0) -> None:
    end_s = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.01)


def refused(response: httpx.Response, status: int, param: str | None = None, code: str | None = None) -> str:
    """Check that a reply is an error in the documented shape; its message."""
    assert response.status_code == status, response.text
    detail = response.json()["error"]
    assert set(response.json()) == {"error"}
    assert set(detail) == {"message", "type", "param", "code"}
    assert isinstance(detail["message"], str)
    assert isinstance(detail["type"], str)
    if param is not None:
        assert detail["param"] == param
    if code is not None:
        assert detail["code"] == code
    return detail["message"]
