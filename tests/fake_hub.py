"""A hub of data sets and models on loopback, with as much of the real one's interface as its clients use."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class FakeHub:
    """Serves folders as data sets, and their files as a model's too.

    Args:
        folders: `owner/name` → folder.

    Attributes:
        endpoint: what HF_ENDPOINT is set to.
        asked: every request: method, path, and the bytes of a file that were wanted.
    """

    def __init__(self, folders: dict[str, Path]) -> None:
        self.folders = folders
        self.asked: list[tuple[str, str, str]] = []
        hub = self

        class Bound(_Exchange):
            def setup(self) -> None:
                self.hub = hub
                super().setup()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Bound)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def environment(self, home: Path) -> dict[str, str]:
        """For a process that uses this hub, with its cache in `home`.

        The hub's clients read their endpoint when they are imported.
        """
        return {
            **os.environ,
            "HF_ENDPOINT": self.endpoint,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep the tests' output clean."""

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])).decode())

    def answer(self, body: str = "") -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range", "")))
        for name, folder in self.hub.folders.items():
            api, files = f"/api/datasets/{name}", f"/datasets/{name}/resolve/"
            if path.startswith((files, files.removeprefix("/datasets"))):
                self.file(folder / path.partition("/resolve/")[2].partition("/")[2])
                return
            for about in (api, f"/api/models/{name}"):
                if path == about or path.startswith(f"{about}/"):
                    self.about(name, folder, path.removeprefix(about), body)
                    return
        self.json({"error": "not found"}, 404)

    def about(self, name: str, folder: Path, asked: str, body: str) -> None:
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        if asked.startswith("/paths-info/"):
            wanted = json.loads(body)["paths"]
            self.json([entry(folder, file) for file in names if file in wanted])
        elif asked.startswith("/tree/"):
            self.json([entry(folder, file) for file in names])
        else:
            siblings = [{"rfilename": file} for file in names]
            self.json({"id": name, "sha": COMMIT, "siblings": siblings, "private": False})

    def json(self, data: object, code: int = 200) -> None:
        self.reply(code, json.dumps(data).encode(), {"Content-Type": "application/json"})

    def file(self, path: Path) -> None:
        data = path.read_bytes()
        etag = hashlib.sha1(data).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        wanted = self.headers.get("Range", "")
        if not wanted.startswith("bytes="):
            self.reply(200, data, headers)
            return
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        end = min(int(last) + 1 if last else len(data), len(data))
        headers["Content-Range"] = f"bytes {first}-{end - 1}/{len(data)}"
        self.reply(206, data[int(first) : end], headers)

    def reply(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def entry(folder: Path, name: str) -> dict[str, object]:
    data = (folder / name).read_bytes()
    return {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
