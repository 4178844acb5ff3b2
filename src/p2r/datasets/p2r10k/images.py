"""The images of the sources: what identifies one, its bytes and its perceptual hash."""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from p2r.errors import InputError, file_problem
from p2r.images import ImageSource
from p2r.runs.files import replacing

_SIDE = 32  # pixels to which an image is reduced before it is hashed
_LOW = 8  # lowest frequencies of them, across and down
_COSINES = np.cos(np.pi * np.arange(_LOW)[:, None] * (2 * np.arange(_SIDE)[None, :] + 1) / (2 * _SIDE))
_SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"RI": ".webp", b"II": ".tif", b"MM": ".tif"}


@dataclass(frozen=True, slots=True)
class HashedImage:
    """An image that was opened and decoded."""

    digest: str  # sixteen hex digits over its bytes
    hash: int  # its perceptual hash, 64 bits
    size: tuple[int, int]  # (width, height), upright
    data: bytes | Path  # the bytes, or the file that holds them

    @classmethod
    def open(cls, data: bytes | Path) -> HashedImage:
        """Open and decode an image.

        Raises:
            InputError: it cannot be read.
        """
        try:
            digest = hashlib.sha256(data if isinstance(data, bytes) else data.read_bytes()).hexdigest()
        except OSError as error:
            raise InputError(f"{data!s}: {file_problem(error)}") from error
        source = ImageSource.open(data)
        return cls(digest[:16], perceptual_hash(source), source.size, data)

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


def perceptual_hash(source: ImageSource) -> int:
    """The perceptual hash of an image: 64 bits that survive resizing and recompression.

    Which of the 8 × 8 lowest frequencies (DCT-II) of its gray 32 × 32 reduction are above their median:
    C. Zauner, "Implementation and benchmarking of perceptual image hash functions", 2010. Images look the
    same when few bits differ (`distance`).

    Raises:
        InputError: it cannot be decoded.
    """
    pixels = source.overview((_SIDE, _SIDE)).pixels.astype(np.float64)
    gray = pixels @ np.array([0.299, 0.587, 0.114])
    low = (_COSINES @ gray @ _COSINES.T).ravel()
    # The first is the mean brightness, which says nothing about the shape.
    bits = low > np.median(low[1:])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def distance(one: int, others: np.ndarray) -> np.ndarray:
    """The number of bits in which a hash differs from others (uint64), shape as `others`."""
    bits: np.ndarray = np.bitwise_count(others ^ np.uint64(one))
    return bits
