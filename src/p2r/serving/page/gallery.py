"""The pictures of the page: those that people gave, for a while, and the bundled scenes."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import p2r
from p2r.datasets.samples import read_samples
from p2r.images import ImageSource
from p2r.images.sizing import fit_size
from p2r.serving.page.shelf import Shelf

if TYPE_CHECKING:
    import PIL.Image

    from p2r.images.limits import Limits
    from p2r.types import Sample

MAX_BYTES = 128 * 1024 * 1024
PREVIEW_PIXELS = 1024 * 768
THUMBNAIL_PIXELS = 320 * 180
_SCENES = Path(p2r.__file__).parent / "demo"


@dataclass(frozen=True, slots=True)
class Given:
    """A picture that somebody gave: the file, and a JPEG of it for the page."""

    data: bytes
    preview: bytes


class Gallery:
    """Finds pictures by name.

    Args:
        limits: what a picture may be at most.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._given: Shelf[Given] = Shelf(MAX_BYTES)
        self._thumbnails: dict[str, bytes] = {}

    @cached_property
    def scenes(self) -> dict[str, Sample]:
        """The bundled scenes, each with its question."""
        return {sample.question.id: sample for sample in read_samples(_SCENES / "samples.jsonl")}

    def take(self, data: bytes) -> tuple[str, ImageSource]:
        """Keep a picture for a while: its name, and the picture opened.

        Raises:
            InputError: it cannot be read or is over a limit.
        """
        source = ImageSource.open(data, self._limits)
        # A file may promise more than it holds; who gives it hears so now.
        given = Given(data, jpeg(_shrunk(source, PREVIEW_PIXELS)))
        return self._given.put(given, len(given.data) + len(given.preview)), source

    def open(self, name: str) -> ImageSource | None:
        """The picture of this name, or None when it is not here any more.

        Raises:
            InputError: it cannot be read.
        """
        if name in self.scenes:
            return ImageSource.open(self.scenes[name].question.image, self._limits)
        given = self._given.get(name)
        return ImageSource.open(given.data, self._limits) if given else None

    def preview(self, name: str) -> bytes | None:
        """The picture as a JPEG for a page; None when it is not here any more.

        Raises:
            InputError: it cannot be read.
        """
        if given := self._given.get(name):
            return given.preview
        source = self.open(name)
        return jpeg(_shrunk(source, PREVIEW_PIXELS)) if source else None

    def thumbnail(self, scene: str) -> bytes | None:
        """A scene as a small JPEG; None when there is no such scene."""
        if scene not in self.scenes:
            return None
        if scene not in self._thumbnails:
            source = ImageSource.open(self.scenes[scene].question.image, self._limits)
            self._thumbnails[scene] = jpeg(_shrunk(source, THUMBNAIL_PIXELS))
        return self._thumbnails[scene]


def shown_size(source: ImageSource, max_pixels: int) -> tuple[int, int]:
    """The size at which a picture is shown: its shape, at most so many pixels, never enlarged."""
    most = min(max_pixels, source.width * source.height)
    return fit_size(source.width, source.height, max_pixels=max(most, 1), min_pixels=1, factor=1)


def _shrunk(source: ImageSource, max_pixels: int) -> PIL.Image.Image:
    return source.overview(shown_size(source, max_pixels)).to_pil()


def jpeg(image: PIL.Image.Image) -> bytes:
    """An image for people as a JPEG file."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=88)
    return file.getvalue()
