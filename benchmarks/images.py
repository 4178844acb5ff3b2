"""What images cost: time and peak memory of one question's image work, ours against plain Pillow.

Both do the same steps on the same file: decode, overview at 4 megapixels, outlines, three crops with 10 %
context, and encoding for transport (overview plain and outlined, crops; JPEG at quality 95 above half a
megapixel). The baseline is what one would write with Pillow and its defaults: the full raster, resized and
cropped. Both resize with the bicubic filter.

    python benchmarks/images.py                 # everything; makes 0.7 GB of files in a temporary folder
    python benchmarks/images.py --only 8k --repeat 9 --json out/images.json

Times are medians of alternating runs in one process, after one run each to warm up. Memory is the peak
resident size of a fresh process that does one run. Exit code 1 when a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import PIL
import PIL.Image
import PIL.ImageOps
import pyvips
from rich.console import Console
from rich.table import Table

from p2r.evidence import build_evidence, crop_region, plain_overview, plan_sizes
from p2r.images import ImageSource, encode_all
from p2r.settings import Settings
from p2r.types import Box
from pillow_images import pillow_encode, pillow_outlines

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS = Settings()
BOXES = [Box(120, 150, 150, 190, "a"), Box(480, 520, 510, 560, "b"), Box(850, 820, 890, 860, "c")]
GIGABYTE = 1_000_000_000
SIZES = {"8k": (7680, 4320), "100mp": (12_000, 8_400), "gigapixel": (32_768, 30_720)}


# --- the two contestants ---------------------------------------------------------------------------------


def ours(path: Path) -> dict[str, float]:
    """One question's images by `p2r`; seconds of each step."""
    clock = Clock()
    source = ImageSource.open(path)
    overview = plain_overview(source, SETTINGS)
    clock.lap("overview")
    overview.encode()
    clock.lap("encode")
    evidence = build_evidence(source, BOXES, SETTINGS, overview)
    clock.lap("evidence")
    encode_all([evidence.overview, *(crop.image for crop in evidence.crops)])
    for image in (evidence.overview, *(crop.image for crop in evidence.crops)):
        image.encode()
    clock.lap("encode")
    return clock.seconds


def pillow(path: Path) -> dict[str, float]:
    """The same by Pillow with its defaults."""
    PIL.Image.MAX_IMAGE_PIXELS = None
    clock = Clock()
    image = PIL.Image.open(path)
    PIL.ImageOps.exif_transpose(image, in_place=True)
    image = image.convert("RGB")
    regions = [crop_region(box, image.size, SETTINGS.geometry) for box in BOXES]
    plan = plan_sizes(image.size, regions, SETTINGS.budget)
    overview = image.resize(plan.overview)
    clock.lap("overview")
    pillow_encode(overview)
    clock.lap("encode")
    annotated = overview.copy()
    pillow_outlines(annotated, BOXES, SETTINGS.geometry)
    crops = [image.crop(region).resize(size) for region, size in zip(regions, plan.crops, strict=True)]
    clock.lap("evidence")
    for cut in (annotated, *crops):
        pillow_encode(cut)
    clock.lap("encode")
    return clock.seconds


class Clock:
    """Seconds of each step; `total` is their sum."""

    def __init__(self) -> None:
        self.seconds = {"overview": 0.0, "evidence": 0.0, "encode": 0.0}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        """What has passed since the last lap belongs to this step."""
        now = time.perf_counter()
        self.seconds[step] += now - self._last
        self._last = now


CONTESTANTS: dict[str, Callable[[Path], dict[str, float]]] = {"ours": ours, "pillow": pillow}


# --- files -----------------------------------------------------------------------------------------------


def photograph(width: int, height: int) -> pyvips.Image:
    """Something as hard to compress as a photograph: noise at many scales, in blocks of 2048 pixels."""
    side = 2048
    block = None
    for cell, strength in ((512, 55), (128, 35), (32, 25), (8, 12), (1, 3)):
        count = side // cell + 3
        noise = pyvips.Image.gaussnoise(count, count, sigma=1, mean=0, seed=cell)
        for band in (1, 2):
            noise = noise.bandjoin(pyvips.Image.gaussnoise(count, count, sigma=1, mean=0, seed=cell + band))
        layer = noise.resize(cell, kernel="cubic") if cell > 1 else noise
        layer = layer.crop(cell, cell, side, side) * strength
        block = layer if block is None else block + layer
    block = (block + 128).cast("uchar").copy(interpretation="srgb").copy_memory()
    return block.replicate(-(-width // side), -(-height // side)).crop(0, 0, width, height)


def make(name: str, folder: Path) -> Path:
    """Write a test image, unless it is there."""
    path = folder / f"{name}.{'tif' if name == 'gigapixel' else 'jpg'}"
    if not path.exists():
        image = photograph(*SIZES[name])
        if path.suffix == ".tif":
            image.tiffsave(
                str(path), tile=True, tile_width=256, tile_height=256, compression="jpeg", Q=90, bigtiff=True
            )
        else:
            image.jpegsave(str(path), Q=90, subsample_mode="on")  # 4:2:0, as cameras and Pillow write it
    return path


# --- measuring -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """One contestant on one file."""

    file: str
    megapixels: float
    megabytes: float
    contestant: str
    seconds: float
    steps: dict[str, float]
    runs: list[float]
    peak_bytes: int


def peak_bytes() -> int:
    """The peak resident size of this process since it began."""
    # Not ru_maxrss: that is inherited from the parent.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def child(contestant: str, path: Path) -> int:
    """The peak memory of one run in a process of its own."""
    command = [sys.executable, __file__, "--child", contestant, str(path)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def measure(name: str, path: Path, contestants: list[str], repeat: int, *, warm_up: bool) -> list[Result]:
    path.read_bytes()  # both find the file in the page cache
    runs: dict[str, list[dict[str, float]]] = {contestant: [] for contestant in contestants}
    for round_ in range(repeat + warm_up):
        for contestant in contestants:
            steps = CONTESTANTS[contestant](path)
            if round_ >= warm_up:
                runs[contestant].append(steps)
    results = []
    for contestant in contestants:
        totals = [sum(steps.values()) for steps in runs[contestant]]
        steps = {
            step: statistics.median(run[step] for run in runs[contestant]) for step in runs[contestant][0]
        }
        width, height = SIZES[name]
        results.append(
            Result(
                name,
                width * height / 1e6,
                path.stat().st_size / 1e6,
                contestant,
                statistics.median(totals),
                steps,
                totals,
                child(contestant, path),
            )
        )
    return results


def missed(results: list[Result]) -> list[str]:
    """The targets that were not met, in words."""
    by = {(result.file, result.contestant): result for result in results}
    misses = []
    if ("8k", "ours") in by:
        factor = by["8k", "pillow"].seconds / by["8k", "ours"].seconds
        if factor < 2.5:
            misses.append(f"8k: {factor:.2f} times as fast as Pillow, wanted 2.5")
    for name in ("100mp", "gigapixel"):
        result = by.get((name, "ours"))
        if result and result.peak_bytes >= GIGABYTE:
            misses.append(f"{name}: peak of {result.peak_bytes / 1e6:.0f} MB, wanted under 1000")
    result = by.get(("gigapixel", "ours"))
    if result and result.seconds >= 10:
        misses.append(f"gigapixel: {result.seconds:.1f} s, wanted under 10")
    return misses


def table(results: list[Result]) -> Table:
    out = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
    for title in ("file", "MP", "MB", "", "seconds", "overview", "evidence", "encode", "peak MB", "factor"):
        out.add_column(title, justify="left" if title in ("file", "") else "right")
    fastest = {result.file: result.seconds for result in results if result.contestant == "ours"}
    for result in results:
        factor = result.seconds / fastest[result.file]
        out.add_row(
            result.file,
            f"{result.megapixels:.0f}",
            f"{result.megabytes:.0f}",
            result.contestant,
            f"{result.seconds:.3f}",
            *(f"{seconds:.3f}" for seconds in result.steps.values()),
            f"{result.peak_bytes / 1e6:.0f}",
            f"{factor:.2f}",
        )
    return out


def environment() -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "pillow": PIL.__version__,
        "pyvips": pyvips.__version__,
        "libvips": ".".join(str(pyvips.version(part)) for part in range(3)),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=list(SIZES), action="append", help="measure only this file")
    parser.add_argument("--repeat", type=int, default=7, help="runs on the 8k file; a third on the others")
    parser.add_argument("--folder", type=Path, help="keep the files here; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="write the results here")
    parser.add_argument("--child", nargs=2, metavar=("WHO", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        CONTESTANTS[options.child[0]](Path(options.child[1]))
        print(peak_bytes())
        return 0
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.only or SIZES:
            path = make(name, folder)
            # Pillow would need the whole raster of the gigapixel file: over 3 GB.
            contestants = ["ours"] if name == "gigapixel" else ["ours", "pillow"]
            repeat = options.repeat if name == "8k" else max(1, options.repeat // 3)
            results += measure(name, path, contestants, repeat, warm_up=name != "gigapixel")
    Console().print(table(results))
    misses = missed(results)
    for miss in misses:
        print(f"missed: {miss}")
    if options.json:
        record = {
            "environment": environment(),
            "results": [asdict(result) for result in results],
            "missed": misses,
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(record, indent=2) + "\n")
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
