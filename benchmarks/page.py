"""How long the page waits for a large image: its upload, its preview, and each region of a pan.

    python benchmarks/page.py                                 # 100 megapixels
    python benchmarks/page.py --size 32768 --kinds jpeg       # a gigapixel, over a minute for each kind
    python benchmarks/page.py --files map.tif --regions 100   # files of your own

The files are made by libvips alone: terrain with small print; in few colors for the kinds without loss, since
an upload has at most 256 MiB. A real `p2r serve` on a loopback port gets each as an upload and is asked for
what `viewer.js` asks for: the preview, and then regions of a screen with a margin, along a pan at five
zooms. Times are those of a client with one request at a time: the median, and 95 of 100. CPU is what the
server takes, for all up to the preview and for a region on average. Memory is the server's, resident.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pyvips

if TYPE_CHECKING:
    from collections.abc import Iterator

PREVIEW, AHEAD, MOST, MARGIN = 2_000_000, 3_000_000, 9_000_000, 0.3  # of viewer.js
SCREENS = {"laptop": (1400, 900), "4K": (3840, 2160)}
SCALES = (1.0, 0.75, 0.4, 0.15, 0.05)  # pixels of the screen for one of the image
TILE = {"tile": True, "tile_width": 256, "tile_height": 256}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": (".jpg", {"Q": 75}),
    "png": (".png", {"compression": 1, "filter": "sub"}),
    "tiff pyramid jpeg": (".tif", {**TILE, "pyramid": True, "compression": "jpeg", "Q": 75}),
    "tiff tiles jpeg": (".tif", {**TILE, "compression": "jpeg", "Q": 75}),
    "tiff tiles deflate": (".tif", {**TILE, "compression": "deflate", "predictor": "horizontal"}),
    "tiff strips lzw": (".tif", {"tile_height": 16, "compression": "lzw", "predictor": "horizontal"}),
}


def terrain(side: int, few_colors: bool) -> pyvips.Image:
    """Noise of several sizes, with text on it."""
    cells = ((max(64, side // 16), 90), (max(32, side // 256), 50), (16, 40), (4, 45))
    ground = 128
    for cell, height in cells[:2] if few_colors else cells:
        ground += pyvips.Image.perlin(side, side, cell_size=cell, seed=cell) * height
    if few_colors:
        ground = (ground / 16).rint() * 16
    text = pyvips.Image.text("Parcel 4711\nOak Street 12, well B", dpi=200).embed(40, 60, 1024, 512)
    text = text.replicate(-(-side // 1024), -(-side // 512)).crop(0, 0, side, side)
    colored = ground.bandjoin([ground * 0.8 + 20, 230 - ground * 0.7]).cast("uchar")
    return (text > 128).ifthenelse([20, 20, 60], colored).cast("uchar").copy(interpretation="srgb")


def made(folder: Path, kind: str, side: int) -> Path:
    """A file of a kind."""
    suffix, options = KINDS[kind]
    path = folder / f"{kind.replace(' ', '-')}-{side}{suffix}"
    few_colors = "jpeg" not in kind
    terrain(side, few_colors).write_to_file(str(path), **options)
    return path


def pan(width: int, height: int, screen: tuple[int, int], scale: float, count: int) -> Iterator[str]:
    """The queries of regions from the upper left to the lower right corner, as `#want` of viewer.js."""
    seen = [min(side, shown / scale) for side, shown in zip((width, height), screen, strict=True)]
    density = min(1.0, scale, math.sqrt(MOST / (seen[0] * seen[1])))
    more = max(0.0, math.sqrt(AHEAD / density**2 / (seen[0] * seen[1])) - 1) / 2
    for step in range(count):
        rect = [0, 0, 0, 0]
        for axis, side in enumerate((width, height)):
            at = (side - seen[axis]) * (step + 0.5) / count
            margin = min(MARGIN, more) * seen[axis]
            rect[axis] = math.floor(max(0, at - margin))
            rect[axis + 2] = math.ceil(min(side, at + seen[axis] + margin))
        size = [max(1, round((rect[axis + 2] - rect[axis]) * density)) for axis in (0, 1)]
        yield f"rect={','.join(map(str, rect))}&size={size[0]},{size[1]}"


def timed(client: httpx.Client, method: str, path: str, **more: Any) -> tuple[float, httpx.Response]:
    """Seconds of a request, and its reply."""
    begin_s = time.perf_counter()
    reply = client.request(method, path, **more)
    reply.raise_for_status()
    return time.perf_counter() - begin_s, reply


def cpu_s(server: int) -> float:
    """Seconds of CPU that a process has taken."""
    user, system = Path(f"/proc/{server}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def memory(server: int, key: str) -> int:
    """MB of a process: `VmRSS`, what it holds now, or `VmHWM`, the most so far."""
    return int(re.search(rf"{key}:\s+(\d+)", Path(f"/proc/{server}/status").read_text())[1]) // 1024


def measure(client: httpx.Client, server: int, kind: str, path: Path, regions: int) -> None:
    """Print the row of a file."""
    Path(f"/proc/{server}/clear_refs").write_text("5")  # the peak begins anew
    headers = {"Content-Type": "application/octet-stream"}
    data = path.read_bytes()
    begin_s = cpu_s(server)
    upload_s, reply = timed(client, "POST", "/page/images", content=data, headers=headers)
    image = reply.json()
    width, height = image["width"], image["height"]
    share = min(1.0, math.sqrt(PREVIEW / (width * height)))
    whole = f"rect=0,0,{width},{height}&size={round(width * share)},{round(height * share)}"
    url = f"/page/images/{image['id']}/region"
    preview_s, _ = timed(client, "GET", f"{url}?{whole}")
    row = f"{kind:20} {width * height / 1e6:6.0f} {len(data) / 1e6:6.0f} {upload_s:8.1f} {preview_s:8.1f}"
    row += f" {cpu_s(server) - begin_s:6.1f}"
    for screen in SCREENS.values():
        count = -(-regions // len(SCALES))
        queries = [query for scale in SCALES for query in pan(width, height, screen, scale, count)]
        begin_s = cpu_s(server)
        times = [1000 * timed(client, "GET", f"{url}?{query}")[0] for query in queries]
        row += f" {statistics.median(times):8.0f} {sorted(times)[int(0.95 * len(times))]:6.0f}"
        row += f" {1000 * (cpu_s(server) - begin_s) / len(times):6.0f}"
    print(f"{row} {memory(server, 'VmRSS'):7,} {memory(server, 'VmHWM'):7,}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=10_240, help="side of the files in pixels")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--files", nargs="+", type=Path, help="measure these instead")
    parser.add_argument("--regions", type=int, default=100, help="of each file and screen")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "p2r", "serve", "--model", "http://127.0.0.1:1/v1#none", "--port", "0"]
    with tempfile.TemporaryDirectory() as folder, subprocess.Popen(command, stderr=subprocess.PIPE) as server:
        try:
            address = next(line for line in server.stderr if b"listening on" in line)
            host = re.search(rb"listening on (\S+)", address)[1].decode()
            print(
                f"{os.cpu_count()} cores; the server holds {memory(server.pid, 'VmRSS')} MB without an image"
            )
            print(f"{'':20} {'Mpx':>6} {'MB':>6} {'upload s':>8} {'preview':>8} {'CPU s':>6}", end="")
            print(
                "".join(f" {name:>8} {'p95 ms':>6} {'CPU ms':>6}" for name in SCREENS),
                f"{'MB held':>7} {'peak':>7}",
            )
            with httpx.Client(base_url=f"http://{host}", timeout=600, trust_env=False) as client:
                files = [(path.name[:20], path) for path in arguments.files or ()] or [
                    (kind, made(Path(folder), kind, arguments.size)) for kind in arguments.kinds
                ]
                for kind, path in files:
                    measure(client, server.pid, kind, path, arguments.regions)
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
