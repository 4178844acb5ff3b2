"""TIFF files with any tags, also those that Pillow and libvips never write."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

Order = Literal["<", ">"]
Values: TypeAlias = tuple[int, Sequence[float] | bytes]  # type, values

_LETTERS = {1: "B", 3: "H", 4: "I", 12: "d", 13: "I", 16: "Q"}
PHOTOMETRIC = {1: 1, 3: 2, 4: 2}


@dataclass
class Directory:
    """A page: pixels of shape (height, width, samples), in one strip or in tiles, and more tags."""

    pixels: np.ndarray
    tags: Mapping[int, Values] = field(default_factory=dict)
    tile: int = 0
    planes: bool = False
    data: Sequence[bytes] | None = None  # instead of the pixels, as they are stored
    children: Sequence[Directory] = ()


def tiff(*pages: Directory, order: Order = "<", big: bool = False, last: int = 0) -> bytes:
    """A file with these pages; `last` is where the last one says that the next one is."""
    head = (b"II" if order == "<" else b"MM") + (
        struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HI", 42, 8)
    )
    file = bytearray(head)
    for index, page in enumerate(pages):
        next_at = _write(file, page, order, big)
        following = last if index == len(pages) - 1 else len(file) + len(file) % 2
        file[next_at : next_at + (8 if big else 4)] = struct.pack(order + ("Q" if big else "I"), following)
        file += b"\0" * (len(file) % 2)
    return bytes(file)


def _write(file: bytearray, page: Directory, order: Order, big: bool) -> int:
    # Appends a directory and then what belongs to it; returns where its pointer to the next is.
    height, width, samples = page.pixels.shape
    kind = page.pixels.dtype
    data = list(page.data) if page.data is not None else _pieces(page, order)
    tags: dict[int, Values] = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [kind.itemsize * 8] * samples),
        259: (3, [1]),
        262: (3, [PHOTOMETRIC.get(samples, 2)]),
        277: (3, [samples]),
        284: (3, [2 if page.planes else 1]),
    }
    if kind.kind != "u":
        tags[339] = (3, [{"i": 2, "f": 3}[kind.kind]] * samples)
    counts: Values = (4, [len(piece) for piece in data])
    if page.tile:
        tags |= {322: (4, [page.tile]), 323: (4, [page.tile]), 324: (4, [0] * len(data)), 325: counts}
    else:
        tags |= {273: (4, [0] * len(data)), 278: (4, [height]), 279: counts}
    tags |= page.tags
    if page.children:
        tags[330] = (4, [0] * len(page.children))
    pointer, letter = (8, "Q") if big else (4, "I")
    start, entry = len(file), 4 + 2 * pointer
    next_at = start + (8 if big else 2) + entry * len(tags)
    file += struct.pack(order + ("Q" if big else "H"), len(tags)) + bytes(entry * len(tags) + pointer)
    places: dict[int, int] = {}
    for index, (tag, (code, values)) in enumerate(sorted(tags.items())):
        stored = (
            bytes(values)
            if isinstance(values, bytes)
            else struct.pack(f"{order}{len(values)}{_LETTERS[code]}", *values)
        )
        at = next_at - entry * (len(tags) - index)
        file[at : at + 4 + pointer] = struct.pack(f"{order}HH{letter}", tag, code, len(values))
        places[tag] = at + 4 + pointer
        if len(stored) > pointer:
            places[tag] = len(file) + len(file) % 2
            file[at + 4 + pointer : at + entry] = struct.pack(order + letter, places[tag])
            file += b"\0" * (len(file) % 2)
            file += stored
        else:
            file[at + 4 + pointer : at + 4 + pointer + len(stored)] = stored
    offsets = 324 if page.tile else 273
    for index, piece in enumerate(data):
        at = places[offsets] + 4 * index
        file[at : at + 4] = struct.pack(order + "I", len(file))
        file += piece + b"\0" * (len(piece) % 2)
    for index, child in enumerate(page.children):
        at = places[330] + 4 * index
        file += b"\0" * (len(file) % 2)
        file[at : at + 4] = struct.pack(order + "I", len(file))
        _write(file, child, order, big)
    return next_at


def _pieces(page: Directory, order: Order) -> list[bytes]:
    pixels = page.pixels.astype(page.pixels.dtype.newbyteorder(order))
    height, width, samples = pixels.shape
    planes = [pixels[:, :, [index]] for index in range(samples)] if page.planes else [pixels]
    if not page.tile:
        return [plane.tobytes() for plane in planes]
    across, down = -(-width // page.tile), -(-height // page.tile)
    side = page.tile
    pieces = []
    for plane in planes:
        padded = np.pad(plane, ((0, down * side - height), (0, across * side - width), (0, 0)))
        pieces += [
            padded[y * side : (y + 1) * side, x * side : (x + 1) * side].tobytes()
            for y in range(down)
            for x in range(across)
        ]
    return pieces
