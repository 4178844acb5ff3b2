"""Where the images of a source are, and what identifies one: its bytes, and how it looks."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from p2r.errors import InputError, MissingExtraError
from p2r.images import ImageSource
from p2r.runs.files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator

_SIDE = 32  # pixels to which an image is reduced before it is hashed
_LOW = 8  # lowest frequencies of them, across and down
_SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"RI": ".webp", b"II": ".tif", b"MM": ".tif"}


class UnreachableError(InputError):
    """The hub did not answer: nothing is wrong with the row, and the same command can go on later."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An image that was opened and decoded.

    Attributes:
        digest: sixteen hex digits over its bytes.
        look: its perceptual hash, 64 bits.
        size: (width, height), upright.
        data: the bytes, or the file that holds them.
    """

    digest: str
    look: int
    size: tuple[int, int]
    data: bytes | Path

    @property
    def file_name(self) -> str:
        """A name that equal images share."""
        if isinstance(self.data, Path):
            return self.digest + (self.data.suffix.lower() or ".jpg")
        return self.digest + _SUFFIXES.get(self.data[:2], ".img")

    def write(self, folder: Path) -> None:
        """Put the image into a folder, once: a hard link to a file on the same disk, else a copy.

        Raises:
            OSError: the disk is full, or the folder cannot be written.
        """
        target = folder / self.file_name
        if target.exists():
            return
        with replacing(target) as partial:
            if isinstance(self.data, bytes):
                partial.write_bytes(self.data)
            else:
                try:
                    os.link(self.data.resolve(), partial)
                except OSError:
                    shutil.copyfile(self.data, partial)


def look_at(image: bytes | Path) -> Seen:
    """Open and decode an image.

    Raises:
        InputError: it cannot be read.
    """
    if isinstance(image, Path):
        try:
            with image.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"{image}: {error.strerror or error}") from error
    else:
        digest = hashlib.sha256(image).hexdigest()
    source = ImageSource.open(image)
    return Seen(digest[:16], look_of(source), (source.width, source.height), image)


def look_of(source: ImageSource) -> int:
    """The perceptual hash of an image: 64 bits that survive resizing and recompression.

    Which of the 8 × 8 lowest frequencies (DCT-II) of its gray 32 × 32 reduction are above their median:
    C. Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010. Images are
    the same to the eye when few bits differ (`distance`).

    Raises:
        InputError: it cannot be decoded.
    """
    pixels = source.overview((_SIDE, _SIDE)).pixels.astype(np.float64)
    gray = pixels @ np.array([0.299, 0.587, 0.114])
    low = (_COSINES @ gray @ _COSINES.T).ravel()
    # The first is the mean brightness, which says nothing about the shape.
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _cosines() -> np.ndarray:
    frequency, place = np.arange(_LOW)[:, None], np.arange(_SIDE)[None, :]
    return np.cos(np.pi * frequency * (2 * place + 1) / (2 * _SIDE))


_COSINES = _cosines()


def distance(look: int, others: np.ndarray) -> np.ndarray:
    """How many bits of a hash differ from those of others (uint64), shape as `others`."""
    bits: np.ndarray = np.bitwise_count(others ^ np.uint64(look))
    return bits


class ImageFiles:
    """Finds the images that rows name by a path: in a folder, or among the files of a hub repository.

    Args:
        root: the folder of the table; None on the hub.
        hub_id: `owner/name[@revision]`; it is listed, and an image fetched, when one is asked for.
    """

    def __init__(self, root: Path | None, hub_id: str) -> None:
        self._root = root
        self._name, _, self._revision = hub_id.partition("@")
        self._lock = threading.Lock()
        self._listed: frozenset[str] | None = None

    def find(self, name: str) -> Path:
        """The image, on this machine.

        Raises:
            InputError: there is none.
            UnreachableError: there is one, and it could not be fetched.
        """
        if self._root is not None:
            for candidate in _candidates(name):
                if (path := self._root / candidate).is_file():
                    return path
            if (path := self._root.parent / name).is_file():
                return path
            raise InputError(f"no image {name} in {self._root}")
        with self._lock:
            if self._listed is None:
                self._listed = self._list()
        for candidate in _candidates(name):
            if candidate in self._listed:
                return self._fetched(candidate)
        packed = any(file.endswith((".zip", ".tar", ".gz", ".7z", ".rar")) for file in self._listed)
        hint = "; they are packed there: unpack them, and give the folder" if packed else ""
        raise InputError(f"no image {name} in {self._name}{hint}")

    def _list(self) -> frozenset[str]:
        hub = _hub()
        try:
            info = hub.HfApi().dataset_info(self._name, revision=self._revision or None)
        except Exception as error:
            raise UnreachableError(_unreachable(self._name, error)) from error
        # What is fetched from now on comes from this commit.
        self._revision = info.sha
        return frozenset(file.rfilename for file in info.siblings or ())

    def _fetched(self, name: str) -> Path:
        try:
            fetched = _hub().hf_hub_download(
                self._name, name, repo_type="dataset", revision=self._revision or None
            )
        except Exception as error:
            # The client of the hub raises errors of its own, of its HTTP library and of the file system.
            raise UnreachableError(_unreachable(f"{self._name}: {name}", error)) from error
        return Path(fetched)


def _candidates(name: str) -> Iterator[str]:
    # Releases name an image from their own folder, from the folder above it, or from where it once was.
    path = PurePosixPath(name)
    yield name
    if not path.is_absolute() and len(path.parts) > 1:
        yield str(PurePosixPath(*path.parts[1:]))
    for folder in ("images", "data"):
        yield f"{folder}/{name}"
        yield f"{folder}/{path.name}"


def _unreachable(what: str, error: Exception) -> str:
    cause = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return f"{what} cannot be fetched: {cause}; the same command goes on where it stopped"


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtraError("eval", "huggingface_hub") from error
    return huggingface_hub
