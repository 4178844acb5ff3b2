"""Pages of PDF documents through pypdfium2 (extra `documents`): each is drawn as an image when it is needed.

PDFium is not safe for threads, so one page is drawn at a time. Filled forms and annotations are drawn too.
"""

from __future__ import annotations

import math
import threading
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from p2r.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DPI = 300  # of paper scans; text of 6 points is 25 pixels high
MAX_PIXELS = 50_000_000  # of a page; posters and plans are drawn coarser
_POINTS = 72  # to the inch
_lock = threading.Lock()


class PdfPage:
    """A page, of which only the size is read.

    Attributes:
        size: `(width, height)` in pixels at `DPI`, or at less for a page of more than `MAX_PIXELS`.
        pages: how many the document has.
        notes: that it has further pages, if none was named.

    Raises:
        InputError: there is no such page; the document is encrypted.
        MissingExtraError: pypdfium2 is not installed.
        RuntimeError, …: whatever pypdfium2 raises for a file that it cannot read.
    """

    orientation = 1
    bits = 8

    def __init__(self, name: str, origin: Path | bytes, page: int | None) -> None:
        self._name, self._origin, self._index = name, origin, (page or 1) - 1
        self.notes: tuple[str, ...] = ()
        with self._opened() as document:
            self.pages = len(document)
            check_page(name, page, self.pages)
            if page is None and self.pages > 1:
                self.notes = (f"the file has {self.pages} pages: the first was read",)
            width, height = document[self._index].get_size()
        self._scale = min(DPI / _POINTS, math.sqrt(MAX_PIXELS / max(1, width * height)))
        self.size = (math.ceil(width * self._scale), math.ceil(height * self._scale))

    @contextmanager
    def _opened(self) -> Iterator[Any]:
        try:
            import pypdfium2
        except ImportError as error:
            package = f"{self._name}: pypdfium2, which reads PDF documents,"
            raise MissingExtraError("documents", package) from error
        with _lock, closing(pypdfium2.PdfDocument(self._origin)) as document:
            document.init_forms()
            yield document

    def decode(self) -> tuple[np.ndarray, None]:
        """Its pixels, RGB on white, shape (height, width, 3); they have no ICC profile."""
        with self._opened() as document:
            bitmap = document[self._index].render(scale=self._scale, rev_byteorder=True)
            pixels = np.array(bitmap.to_numpy()[:, :, :3])
        if pixels.shape[1::-1] != self.size:
            raise ValueError(f"the page says {self.size} pixels, and there are {pixels.shape[1::-1]}")
        return pixels, None


def check_page(name: str, page: int | None, pages: int) -> None:
    """Raise `InputError` if a file has no page of this number."""
    if page is not None and not 1 <= page <= pages:
        raise InputError(f"{name}: there is no page {page}: it has {pages}")
