"""The image of a command line: files, addresses, data URIs and standard input."""

from __future__ import annotations

import base64
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from p2r.cli import app
from p2r.cli._image import open_images
from p2r.cli.answer import _question
from p2r.errors import InputError
from p2r.images import ImageSource
from p2r.images.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def jpeg(width: int = 40, height: int = 30) -> bytes:
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    PIL.Image.fromarray(noise).save(file, "JPEG")
    return file.getvalue()


class Pages(BaseHTTPRequestHandler):
    """A small web server: an image, a redirect to it, a loop, a page, and nothing."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path in ("/moved", "/loop"):
            self.send_response(302)
            self.send_header("Location", "/image.jpg" if path == "/moved" else "/loop")
            self.end_headers()
        elif path == "/image.jpg":
            self.reply(jpeg(), "image/jpeg")
        elif path == "/page":
            self.reply(b"<!doctype html><title>Sign in</title>", "text/html")
        elif path == "/empty":
            self.reply(b"", "image/jpeg")
        else:
            self.send_error(404)

    def reply(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.mark.parametrize("path", ["/image.jpg", "/image.jpg?size=large", "/moved"])
def test_an_address_is_fetched(web: str, path: str) -> None:
    assert open_images(web + path)[0].size == (40, 30)
    assert open_images(web.upper() + path)[0].size == (40, 30)


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/missing.jpg", "404"),
        ("/page", "(text/html): this is an HTML page"),
        ("/empty", "0 bytes"),
        ("/loop", "302 (redirects without end)"),
    ],
)
def test_an_address_without_an_image_is_one_line(web: str, path: str, says: str) -> None:
    with pytest.raises(InputError, match=path) as refused:
        open_images(web + path)
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_address_gives_no_more_than_the_limit(web: str) -> None:
    with pytest.raises(InputError, match="more than the limit of 500 bytes"):
        open_images(f"{web}/image.jpg", Limits(max_bytes=500))


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.jpg", "http://", "http://[", "https://127.0.0.1:9"])
def test_an_address_that_does_not_answer(url: str) -> None:
    with pytest.raises(InputError, match="cannot be fetched") as refused:
        open_images(url)
    assert "Errno" not in str(refused.value)


def test_a_password_in_an_address_is_not_repeated(web: str) -> None:
    with pytest.raises(InputError) as refused:
        open_images(web.replace("//", "//me:secret@") + "/missing.jpg")
    assert "secret" not in str(refused.value)


def test_files_are_named_in_every_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a b.jpg"
    path.write_bytes(jpeg())
    monkeypatch.setenv("HOME", str(tmp_path))
    data = "data:image/jpeg;base64," + base64.b64encode(jpeg()).decode()
    for name in (str(path), "~/a b.jpg", path.as_uri(), f"file://localhost{tmp_path}/a%20b.jpg", data):
        assert open_images(name)[0].size == (40, 30), name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "empty"),
        ("ftp://host/a.jpg", "http://"),
        ("file://elsewhere/a.jpg", "another machine"),
        ("data:image/png,x", "base64"),
        (".", "folder"),
        ("nope.jpg", "no such file"),
    ],
)
def test_an_argument_that_is_not_an_image_is_refused(name: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        open_images(name)


def test_a_truncated_image_is_found_before_a_model_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "half.jpg"
    path.write_bytes(jpeg(400, 300)[:9000])
    with pytest.raises(InputError, match=r"half\.jpg"):
        open_images(str(path))


def test_standard_input_is_read() -> None:
    good = CliRunner().invoke(app, ["answer", "-", "What?", "--model", "no/model#x"], input=jpeg())
    assert "standard input" not in good.stderr, "the image is fine, the model is not"
    for data in (b"", b"no image"):
        result = CliRunner().invoke(app, ["answer", "-", "What?"], input=data)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: standard input: ")


def test_the_last_argument_is_the_question_and_the_others_are_images(tmp_path: Path) -> None:
    image, pages = tmp_path / "a.jpg", tmp_path / "scan.tif"
    image.write_bytes(jpeg())
    first, second = (PIL.Image.new("RGB", size) for size in ((64, 32), (32, 64)))
    first.save(pages, save_all=True, append_images=[second])
    asked = _question([str(image), str(pages), f"{pages}#page=2"], "Which? A. this B. that", [], None)
    sizes = [source.size for source in map(ImageSource.open, asked.images)]
    assert sizes == [(40, 30), (64, 32), (32, 64), (32, 64)]
    assert (asked.text, asked.choices) == ("Which?", ("this", "that"))
    # A figure never replaces one of them.
    result = CliRunner().invoke(
        app, ["answer", str(image), f"{pages}#page=2", "Which?", "--save", str(pages)]
    )
    assert (result.exit_code, "it is the image of the question" in result.stderr) == (2, True)


def test_many_images_get_a_hint(tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    image.write_bytes(jpeg())
    (tmp_path / "many.jsonl").write_text('{"image": "a.jpg", "question": "What?"}\n')
    for arguments in ([tmp_path, "What?"], [tmp_path / "many.jsonl", "What?"]):
        result = CliRunner().invoke(app, ["answer", *map(str, arguments)])
        assert result.exit_code == 2
        assert result.stderr.count("\n") == 1
        assert "p2r batch" in result.stderr
        assert "p2r eval" in result.stderr
    unquoted = CliRunner().invoke(app, ["answer", str(image), "What", "is", "it?"])
    assert "in quotes" in unquoted.stderr
