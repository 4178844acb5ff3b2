"""A hub of data sets and models on loopback, with as much of the real one's interface as its clients use.

Uploads go the way of Git LFS, which the client takes without the package hf_xet: preupload (large file or
not), batch, PUT of each large file, commit.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OWNER = "me"
TOKEN = "hf_of_the_owner"
REFUSED = "no-such-license"  # of a card
BROKEN = "me/broken"  # a repository at which the connection breaks


class FakeHub:
    """Serves folders as data sets, and their files as a model's too.

    Args:
        folders: `owner/name` → folder.
        store: where new repositories are made, as `store/owner/name`.

    Attributes:
        endpoint: what HF_ENDPOINT is set to.
        asked: every request: method, path, and the bytes of a file that were wanted.
        private: the names of the private repositories.
        large: the large files that were sent, by their SHA-256.
        commits: the lines of every commit.
    """

    def __init__(self, folders: dict[str, Path], store: Path | None = None) -> None:
        self.folders, self.store = dict(folders), store
        self.private: set[str] = set()
        self.large: dict[str, bytes] = {}
        self.commits: list[list[dict[str, Any]]] = []
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
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        path = unquote(urlsplit(self.path).path)
        if path == "/api/validate-yaml":
            self.validate(json.loads(body)["content"])
        elif path == "/api/repos/create":
            self.write(path, self.create, json.loads(body))
        elif "/preupload/" in path:
            self.write(path, self.preupload, json.loads(body))
        elif path.endswith("/info/lfs/objects/batch"):
            self.write(path, self.batch, json.loads(body))
        elif "/commit/" in path:
            self.write(path, self.commit, [json.loads(line) for line in body.splitlines()])
        else:
            self.answer(body)

    def validate(self, card: str) -> None:
        errors = ['"license" must be one of a list'] if f"license: {REFUSED}" in card else []
        if self.headers.get("Accept") == "text/plain":
            self.reply(400 if errors else 200, "".join(errors).encode(), {"Content-Type": "text/plain"})
        else:
            listed = [{"message": error} for error in errors]
            self.json({"errors": listed, "warnings": []}, 400 if errors else 200)

    def do_PUT(self) -> None:
        self.hub.asked.append(("PUT", self.path, ""))
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.hub.large[self.path.rpartition("/")[2]] = data
        self.json({})

    def write(self, path: str, act: Callable[[str, Any], None], body: Any) -> None:
        """Do what only the owner of a repository may do."""
        self.hub.asked.append(("POST", path, ""))
        parts = path.removeprefix("/api/models").strip("/").removesuffix(".git/info/lfs/objects/batch")
        name = "/".join(parts.split("/")[:2])
        if path == "/api/repos/create":
            name = f"{body['organization'] or OWNER}/{body['name']}"
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.unauthorized()
        elif not name.startswith(f"{OWNER}/"):
            self.json({"error": "You don't have the rights to create a model under this namespace"}, 403)
        else:
            act(name, body)

    def create(self, name: str, body: dict[str, Any]) -> None:
        url = f"{self.hub.endpoint}/{name}"
        if name in self.hub.folders:
            self.json({"error": "You already created this model repo", "url": url}, 409)
            return
        assert self.hub.store
        self.hub.folders[name] = self.hub.store / name
        self.hub.folders[name].mkdir(parents=True)
        if body.get("private") or body.get("visibility") == "private":
            self.hub.private.add(name)
        self.json({"url": url, "name": name})

    def preupload(self, name: str, body: dict[str, Any]) -> None:
        files = [
            {"path": file["path"], "uploadMode": "lfs" if large(file["path"]) else "regular"}
            for file in body["files"]
        ]
        self.json({"files": [file | {"shouldIgnore": False, "oid": None} for file in files]})

    def batch(self, name: str, body: dict[str, Any]) -> None:
        objects = []
        for wanted in body["objects"]:
            upload = {"href": f"{self.hub.endpoint}/lfs/{wanted['oid']}"}
            known = wanted["oid"] in self.hub.large
            objects.append(wanted | ({} if known else {"actions": {"upload": upload}}))
        self.json({"transfer": "basic", "objects": objects})

    def commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        self.hub.commits.append(lines)
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                (self.hub.folders[name] / value["path"]).write_bytes(base64.b64decode(value["content"]))
            elif line["key"] == "lfsFile":
                (self.hub.folders[name] / value["path"]).write_bytes(self.hub.large[value["oid"]])
            elif line["key"] == "deletedFile":
                (self.hub.folders[name] / value["path"]).unlink()
        self.json({"commitUrl": f"{self.hub.endpoint}/{name}/commit/{COMMIT}", "commitOid": COMMIT})

    def answer(self, body: str = "") -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range", "")))
        if BROKEN in path:
            self.close_connection = True  # without a reply
            return
        if self.headers.get("Authorization", f"Bearer {TOKEN}") != f"Bearer {TOKEN}":
            self.unauthorized()
            return
        for name, folder in self.hub.folders.items():
            api, files = f"/api/datasets/{name}", f"/datasets/{name}/resolve/"
            if path.startswith((files, files.removeprefix("/datasets"))):
                self.file(folder / path.partition("/resolve/")[2].partition("/")[2])
                return
            for about in (api, f"/api/models/{name}"):
                if path == about or path.startswith(f"{about}/"):
                    self.about(name, folder, path.removeprefix(about), body)
                    return
        self.json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})

    def about(self, name: str, folder: Path, asked: str, body: str) -> None:
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        if asked.startswith("/paths-info/"):
            wanted = json.loads(body)["paths"]
            self.json([entry(folder, file) for file in names if file in wanted])
        elif asked.startswith("/tree/"):
            self.json([entry(folder, file) for file in names])
        else:
            siblings = [{"rfilename": file} for file in names]
            private = name in self.hub.private
            self.json({"id": name, "sha": COMMIT, "siblings": siblings, "private": private})

    def unauthorized(self) -> None:
        # The client tells it from a missing repository, also 401, by this text.
        message = "Invalid credentials in Authorization header"
        self.json({"error": message}, 401, {"X-Error-Message": message})

    def json(self, data: object, code: int = 200, headers: dict[str, str] | None = None) -> None:
        self.reply(code, json.dumps(data).encode(), {"Content-Type": "application/json", **(headers or {})})

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


def large(name: str) -> bool:
    """Whether the hub keeps a file apart from the repository's text files."""
    return name.endswith((".safetensors", "tokenizer.json"))
