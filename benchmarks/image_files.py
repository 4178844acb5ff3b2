"""Reads every file of a folder and compares the pixels of `p2r.images` with Pillow's.

    python benchmarks/image_files.py FOLDER
    python benchmarks/image_files.py FOLDER --every 10 --json out/image_files.json

Each file is read by its path, and as the PIL image that `PIL.Image.open` gives. A worker process reads one
file at a time under a bound of time and memory. The table has a row for each suffix:

- `read`: an overview of at most 400 pixels a side, and a crop of at most 200 from the middle, were made;
- `refused`: `InputError`; the reasons are listed below the table with how often they occurred;
- `foreign`: an exception of another type; `crashed`: the process ended; `late`: no answer within the bound;
- `differ`: the mean absolute difference to Pillow's pixels is above 6 of 255 in the overview or the crop.

Pillow's pixels are those of the file after `exif_transpose`, converted from its ICC profile to sRGB (relative
colorimetric, black point compensation), with transparency flattened on white, and resized with its bicubic
filter. A file that Pillow cannot read is not compared. Ctrl-C prints the table of the files read so far. The
exit code is 1 after a foreign exception, a crash or a late file.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import re
import resource
import threading
import time
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import PIL.Image
import PIL.ImageCms
import PIL.ImageOps

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

SIDE, CROP = 400, 200  # pixels
TOLERANCE = 6.0
SECONDS, BYTES, LARGE = 60.0, 6 << 30, 1_000_000_000
WAYS = ("path", "PIL")
BAD = ("foreign", "crashed", "late")


def reference(path: Path) -> PIL.Image.Image:
    """The image as Pillow reads it: upright, in sRGB, on white."""
    image = PIL.Image.open(path)
    mode, profile = image.mode, image.info.get("icc_profile")
    image.load()
    image = PIL.ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        image = PIL.Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"mode {image.mode} has no known range")
    alpha = image.convert("RGBA").getchannel("A") if image.has_transparency_data else None
    if image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("L" if image.mode in ("LA", "La", "1") else "RGB")
    if profile:
        with contextlib.suppress(PIL.ImageCms.PyCMSError):  # a profile that does not fit its image
            image = PIL.ImageCms.profileToProfile(
                image,
                PIL.ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                PIL.ImageCms.createProfile("sRGB"),
                PIL.ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=PIL.ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
    image = image.convert("RGB")
    if alpha is not None:
        image = PIL.Image.composite(image, PIL.Image.new("RGB", image.size, "white"), alpha)
    image.info["mode"] = mode
    return image


def views(size: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """The size of the overview, and the rectangle of the crop."""
    scale = min(1.0, SIDE / max(size))
    x, y = (max(0, (side - CROP) // 2) for side in size)
    overview = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    return overview, (x, y, min(size[0], x + CROP), min(size[1], y + CROP))


def read(way: str, path: Path) -> dict[str, Any]:
    """Read one file in one way: `{"what": …, "why": …}` (the notes of what was read), and its pixels."""
    from p2r.errors import InputError
    from p2r.images import ImageSource

    try:
        source = ImageSource.open(path if way == "path" else PIL.Image.open(path))
        size, rect = views(source.size)
        overview = source.overview(size).pixels
        crop = source.region(rect, (rect[2] - rect[0], rect[3] - rect[1])).pixels
    except InputError as error:
        line = str(error).replace(str(path), "").lstrip(": ")
        if "\n" in line:
            return {"what": "foreign", "why": f"a refusal of several lines: {line!r}"}
        return {"what": "refused", "why": re.sub(r"\d[\d,×.]*", "N", line)[:160]}
    except Exception as error:  # noqa: BLE001 - these are counted
        if way == "PIL" and not isinstance(error, MemoryError):
            try:
                PIL.Image.open(path)
            except Exception as unread:  # noqa: BLE001 - Pillow raises anything
                return {"what": "no PIL image", "why": type(unread).__name__}
        return {"what": "foreign", "why": f"{type(error).__name__}: {error}"[:200]}
    why = "; ".join(source.notes) if hasattr(source, "notes") else ""
    return {"what": "read", "why": why, "size": source.size, "pixels": (overview, crop)}


def difference(found: dict[str, Any], expected: PIL.Image.Image) -> str:
    """How the pixels differ from Pillow's; empty when they do not."""
    if expected.size != found["size"]:
        return f"size {found['size']}, Pillow {expected.size}"
    size, rect = views(expected.size)
    overview = np.asarray(expected.resize(size, PIL.Image.Resampling.BICUBIC))
    crop = np.asarray(expected.crop(rect))
    means = [
        float(np.abs(ours.astype(int) - theirs).mean())
        for ours, theirs in zip(found["pixels"], (overview, crop), strict=True)
    ]
    if max(means) <= TOLERANCE:
        return ""
    return f"overview {means[0]:.0f}, crop {means[1]:.0f} ({expected.info['mode']}; {found['why']})"


def resident_bytes(peak: bool) -> int:
    """The resident size of this process now, or the largest since the last call."""
    status = Path("/proc/self/status").read_text()
    found = re.search(rf"{'VmHWM' if peak else 'VmRSS'}:\s+(\d+)", status)
    Path("/proc/self/clear_refs").write_text("5")
    return int(found[1]) * 1024 if found else 0


def work(connection: Connection) -> None:
    """Read the files whose paths come through the connection; send `(step, outcome)`, None at its start."""
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    warnings.simplefilter("ignore")
    PIL.Image.MAX_IMAGE_PIXELS = None
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
    except ImportError:
        pass
    while (path := connection.recv()) is not None:
        found: dict[str, Any] = {}
        for way in WAYS:
            connection.send((way, None))
            before = resident_bytes(peak=False)
            found[way] = read(way, path)
            found[way]["bytes"] = resident_bytes(peak=True) - before
            connection.send((way, {key: found[way][key] for key in ("what", "why", "bytes")}))
        connection.send(("Pillow", None))
        differences = {}
        try:
            expected = reference(path)
        except Exception as error:  # noqa: BLE001 - Pillow raises anything
            connection.send(("Pillow", f"{type(error).__name__}: {error}"))
            continue
        for way in WAYS:
            if found[way]["what"] == "read":
                differences[way] = difference(found[way], expected)
        connection.send(("Pillow", differences))


class Worker:
    """A process that reads files, one after the other, and is restarted after a crash."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=work, args=(other,), daemon=True)
        self._process.start()
        other.close()

    def read(self, path: Path) -> dict[str, Any]:
        """The outcome of one file in each way, and, under `Pillow`, how that differs."""
        outcomes: dict[str, Any] = {way: {"what": "not reached", "why": ""} for way in WAYS}
        deadline, step = time.monotonic() + SECONDS, WAYS[0]
        try:
            self._connection.send(path)
            while self._connection.poll(max(0.0, deadline - time.monotonic())):
                step, outcome = self._connection.recv()
                if outcome is not None:
                    outcomes[step] = outcome
                if outcome is not None and step == "Pillow":
                    return outcomes
            what, why = "late", f"more than {SECONDS:.0f} s"
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join()
            what, why = "crashed", f"exit code {self._process.exitcode}"
        self._process.kill()
        self._start()
        # Pillow alone, for the comparison, may fail too.
        outcomes[step] = f"{what}: {why}" if step == "Pillow" else {"what": what, "why": why}
        return outcomes

    def stop(self) -> None:
        """End the process."""
        self._connection.send(None)
        self._process.join()


def read_all(paths: list[Path], workers: int) -> dict[str, dict[str, Any]]:
    """The outcome of each file, by name."""
    results: dict[str, dict[str, Any]] = {}
    waiting = iter(enumerate(paths))
    lock = threading.Lock()

    def run() -> None:
        worker = Worker()
        while True:
            with lock:
                index, path = next(waiting, (0, None))
            if path is None:
                worker.stop()
                return
            results[path.name] = worker.read(path)
            if index and index % 1000 == 0:
                print(f"{index:,} of {len(paths):,} files", flush=True)

    threads = [threading.Thread(target=run, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    with contextlib.suppress(KeyboardInterrupt):
        for thread in threads:
            thread.join()
    return dict(results)


def table(results: dict[str, dict[str, Any]]) -> None:
    """Print the outcomes by suffix, the reasons, and the names of the files that failed."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: dict[str, Counter[str]] = {way: Counter() for way in WAYS}
    wrong: list[str] = []
    for name, outcomes in sorted(results.items()):
        row = rows[Path(name).suffix.lower() or "(none)"]
        row["files"] += 1
        differences = outcomes.get("Pillow") if isinstance(outcomes.get("Pillow"), dict) else {}
        for way in WAYS:
            outcome = outcomes[way]
            row[f"{way} {outcome['what']}"] += 1
            if outcome["what"] in ("refused", *BAD):
                reasons[way][f"{outcome['what']}: {outcome['why']}"] += 1
            if differences.get(way):
                row[f"{way} differ"] += 1
                wrong.append(f"differ {way} {name}: {differences[way]}")
            if outcome.get("bytes", 0) > LARGE:
                wrong.append(f"memory {way} {name}: {outcome['bytes'] / 1e9:.1f} GB")
            if outcome["what"] in BAD:
                wrong.append(f"{outcome['what']} {way} {name}: {outcome['why']}")
    columns = [f"{way} {what}" for way in WAYS for what in ("read", "refused", *BAD, "differ")]
    print("suffix".ljust(10) + "files".rjust(7) + "".join(column.rjust(13) for column in columns))
    rows["all"] = sum(rows.values(), Counter())
    for suffix, row in sorted(rows.items(), key=lambda item: -item[1]["files"]):
        print(suffix.ljust(10) + str(row["files"]).rjust(7) + "".join(str(row[c]).rjust(13) for c in columns))
    for way in WAYS:
        print(f"\n{way}:")
        for reason, count in reasons[way].most_common():
            print(f"{count:6} {reason}")
    print("\n" + "\n".join(sorted(wrong)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--every", type=int, default=1, help="read only every N-th file")
    parser.add_argument("--suffix", default="", help="read only files with this suffix")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1))
    parser.add_argument("--json", type=Path, help="write the outcome of each file")
    arguments = parser.parse_args()
    paths = sorted(path for path in arguments.folder.rglob(f"*{arguments.suffix}") if path.is_file())
    results = read_all(paths[:: arguments.every], arguments.workers)
    table(results)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(results, indent=1))
    bad = any(outcomes[way]["what"] in BAD for outcomes in results.values() for way in WAYS)
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
