"""Images for tests: smooth ones that survive lossy encoding, and encoded files of every kind."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image


def smooth(width: int = 96, height: int = 64) -> np.ndarray:
    """RGB gradients: red grows to the right, green grows downwards, blue is 128."""
    pixels = np.full((height, width, 3), 128, np.uint8)
    pixels[:, :, 0] = np.linspace(0, 255, width).astype(np.uint8)
    pixels[:, :, 1] = np.linspace(0, 255, height).astype(np.uint8)[:, None]
    return pixels


def encoded(pixels: np.ndarray | PIL.Image.Image, kind: str, **options: object) -> bytes:
    """A file of `kind` as Pillow writes it."""
    image = pixels if isinstance(pixels, PIL.Image.Image) else PIL.Image.fromarray(pixels)
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference of two arrays of the same shape."""
    assert one.shape == other.shape
    return float(np.abs(one.astype(int) - other.astype(int)).max())
