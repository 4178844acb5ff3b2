"""The image arguments of `p2r answer`: a path, a URL, a data: URI, or standard input."""

from __future__ import annotations

import base64
import http.client
import logging
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from p2r import __version__
from p2r.errors import InputError, file_problem
from p2r.text import without_secrets

if TYPE_CHECKING:
    from p2r.images import ImageSource, Limits

_LOG = logging.getLogger("p2r.cli")

TIMEOUT_S = 30.0  # without a byte from the server

MANY = "for many: p2r batch FILE_OR_FOLDER, or with gold answers p2r eval --benchmark jsonl --data FILE"


def open_images(text: str, limits: Limits | None = None) -> list[ImageSource]:
    """Open an image, or the pages of a document, and decode it once, to find damage before a model is loaded.

    Args:
        text: a path (`~` is the home folder), `-` for standard input, `http://…`, `https://…`, `file://…`, or
            a `data:` URI. Pages may follow a path or a URL, as in `FILE.pdf#page=3`.
        limits: None for the defaults.

    Raises:
        InputError: it cannot be fetched or read.
    """
    from p2r.images import Limits, open_pages
    from p2r.images.source import split_pages

    limits = limits or Limits()
    if not text:
        raise InputError("the image is empty: give a file, a URL, a data: URI, or - for standard input")
    scheme = text.partition(":")[0].lower()
    if text == "-":
        sources = open_pages(_standard_input(limits), limits, name="standard input")
    elif scheme in ("http", "https"):
        url, pages = split_pages(text)
        name, data = _fetched(url, limits)
        sources = open_pages(data, limits, name=name, pages=pages)
    elif scheme == "data":
        sources = open_pages(text, limits)
    else:
        sources = open_pages(_path(text), limits)
    sources[0].overview((64, 64))
    for source in sources:
        _LOG.info("image: %s, %d×%d pixels", source.name, *source.size)
    return sources


def local_file(text: str) -> Path:
    """The path of an image argument that is a file, without its pages."""
    from p2r.images.source import split_pages

    return Path(split_pages(text)[0]).expanduser()


def _path(text: str) -> Path:
    if text[:7].lower() == "file://":
        parts = urllib.parse.urlsplit(text)
        if parts.netloc not in ("", "localhost"):
            raise InputError(f"{text}: a file of another machine; file:///PATH is one of this machine")
        return Path(urllib.request.url2pathname(parts.path))
    if "://" in text:
        raise InputError(
            f"{text}: an image is a path, an http:// or https:// URL, a data: URI, or - for stdin"
        )
    path = Path(text).expanduser()
    if path.is_dir():
        raise InputError(f"{text}: a folder, not an image; {MANY}")
    if path.suffix.lower() in (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".txt") and path.is_file():
        raise InputError(f"{text}: not an image; {MANY}")
    return path


def _standard_input(limits: Limits) -> bytes:
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("-: standard input is a terminal; p2r answer - QUESTION < image.jpg")
    data = sys.stdin.buffer.read(limits.max_bytes + 1)
    if not data:
        raise InputError("standard input: it is empty (0 bytes)")
    return data


def _fetched(url: str, limits: Limits) -> tuple[str, bytes]:
    """Fetch an image: its name for errors, and its bytes. The user may name any host."""
    try:
        name, request = _request(url)
        _LOG.info("fetching %s", name)
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:  # noqa: S310 (http or https)
            data = reply.read(limits.max_bytes + 1)
            kind = reply.headers.get("Content-Type", "")
    except urllib.error.HTTPError as error:
        with error:
            reason = "redirects without end" if 300 <= error.code < 400 else error.reason
            raise InputError(f"{name}: the server replied {error.code} ({reason})") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", None) or error  # of a URLError
        problem = file_problem(cause) if isinstance(cause, OSError) else str(cause) or type(cause).__name__
        raise InputError(f"{url}: cannot be fetched: {problem}") from error
    if len(data) > limits.max_bytes:
        raise InputError(f"{name}: more than the limit of {limits.max_bytes:,} bytes")
    return f"{name} ({kind})" if kind else name, data


def _request(url: str) -> tuple[str, urllib.request.Request]:
    """The address without a password, and the request for it with the password in a header."""
    parts = urllib.parse.urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not parts.hostname:
        raise ValueError("it names no host")
    where = parts._replace(netloc=host.encode("idna").decode()).geturl()
    # As a browser escapes it; existing escapes stay.
    escaped = urllib.parse.quote(where, safe="%/:?#[]@!$&'()*+,;=~")
    request = urllib.request.Request(escaped, headers={"User-Agent": f"perceive-to-reason/{__version__}"})  # noqa: S310
    if at:
        key = base64.b64encode(urllib.parse.unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {key}")
    return without_secrets(url), request
