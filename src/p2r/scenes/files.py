"""Folders of scenes: images, and `samples.jsonl` with questions, answers and gold boxes."""

from __future__ import annotations

import json
import math
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pyvips

from p2r.errors import InputError, file_problem
from p2r.runs.files import claim, folder_lock, replacing
from p2r.scenes.sampling import USUAL, make_samples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from p2r.scenes.fonts import Split
    from p2r.scenes.sampling import SceneSample
    from p2r.scenes.world import Difficulty

QUALITY = 92  # of the JPEG files, and of the tiles in TIFF files
_TILE = 256


def draw_files(jobs: Sequence[tuple[SceneSample, Path]], *, workers: int = 1) -> Iterator[None]:
    """Draw each scene into its file, .jpg or .tif, unless it exists. Yields after each, in order.

    No file is half written.

    Raises:
        OSError, pyvips.Error: a file cannot be written.
    """
    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(_draw, jobs)


def _draw(job: tuple[SceneSample, Path]) -> None:
    made, path = job
    if path.exists():
        return
    with replacing(path) as partial:
        if path.suffix == ".jpg":
            pyvips.Image.new_from_array(made.render()).write_to_file(str(partial), Q=QUALITY)
        else:
            _write_tiff(made, partial)


def _write_tiff(made: SceneSample, path: Path) -> None:
    """A TIFF file of JPEG tiles, drawn and written one row of tiles after the other.

    libvips would need the whole image, in memory or on the disk, before it writes the first tile.
    """
    width, height = made.size
    columns = math.ceil(width / _TILE)
    offsets, lengths = [], []
    with path.open("wb") as file:
        file.write(b"II*\0" + bytes(4))
        for strip in made.strips(_TILE):
            row = pyvips.Image.new_from_array(strip).embed(0, 0, columns * _TILE, _TILE, extend="copy")
            for column in range(columns):
                tile = row.crop(column * _TILE, 0, _TILE, _TILE).jpegsave_buffer(
                    Q=QUALITY, subsample_mode="off"
                )
                offsets.append(file.tell())
                lengths.append(file.write(tile))
        # Tag, type (3: 16 bits, 4: 32 bits) and values; 259 and 262: JPEG in YCbCr, 530: not subsampled.
        entries = (
            (256, 4, (width,)),
            (257, 4, (height,)),
            (258, 3, (8, 8, 8)),
            (259, 3, (7,)),
            (262, 3, (6,)),
            (277, 3, (3,)),
            (322, 4, (_TILE,)),
            (323, 4, (_TILE,)),
            (324, 4, offsets),
            (325, 4, lengths),
            (530, 3, (1, 1)),
        )
        directory = struct.pack("<H", len(entries))
        for tag, kind, values in entries:
            packed = struct.pack(f"<{len(values)}{'HI'[kind - 3]}", *values)
            if len(packed) > 4:
                file.write(bytes(file.tell() % 2))
                place = file.tell()
                file.write(packed)
                packed = struct.pack("<I", place)
            directory += struct.pack("<HHI4s", tag, kind, len(values), packed)
        file.write(bytes(file.tell() % 2))
        place = file.tell()
        file.write(directory + bytes(4))
        file.seek(4)
        file.write(struct.pack("<I", place))


def write_scenes(
    out: Path,
    *,
    split: Split,
    size: str,
    count: int,
    seed: int = 0,
    workers: int = 1,
    world: str = "tags",
    difficulty: Difficulty = USUAL,
) -> Iterator[SceneSample]:
    """Write the samples of `make_samples`; see `write_samples`."""
    made = make_samples(split, count, seed=seed, size=size, world=world, difficulty=difficulty)
    yield from write_samples(out, made, workers=workers)


def write_samples(out: Path, made: Sequence[SceneSample], *, workers: int = 1) -> Iterator[SceneSample]:
    """Write `images/` and `samples.jsonl`, yielding each sample when it is on disk.

    Images are JPEG files, above 150 megapixels tiled TIFF files. Existing files are kept, so an interrupted
    call continues, and so does one with more samples.

    Args:
        out: the folder.
        made: the samples.
        workers: threads; most of the time passes in libvips and Pillow.

    Raises:
        InputError: the folder holds other samples or cannot be written.
    """
    rows = [json.dumps(one.row(), ensure_ascii=False) + "\n" for one in made]
    listed = out / "samples.jsonl"
    claim(out, listed.name, ("images",))
    try:
        _check_rows(listed, rows)
        with folder_lock(out), listed.open("r+" if listed.exists() else "w", encoding="utf-8") as lines:
            _check_rows(listed, rows)
            (out / "images").mkdir(exist_ok=True)
            drawn = draw_files([(one, out / one.file) for one in made], workers=workers)
            for one, row, _ in zip(made, rows, drawn, strict=True):
                lines.write(row)
                yield one
    except UnicodeDecodeError:
        raise InputError(f"{listed}: it is no file of scenes; give another folder") from None
    except OSError as error:
        raise InputError(f"cannot write scenes to {out}: {file_problem(error)}") from error
    except pyvips.Error as error:
        raise InputError(f"cannot write scenes to {out}: {error}") from error


def _check_rows(listed: Path, rows: Sequence[str]) -> None:
    before = listed.read_text(encoding="utf-8") if listed.exists() else ""
    if not "".join(rows).startswith(before):
        raise InputError(f"{listed}: there are other samples, or more; give another folder")
