"""Draws scenes into JPEG files, on several cores where asked; what is there already is kept."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from p2r.scenes.dataset import SceneSample

QUALITY = 92
_WORTH_A_PROCESS = 4  # pictures: to start one takes about as long


def draw_files(jobs: Sequence[tuple[SceneSample, Path]], *, workers: int = 1) -> Iterator[bool]:
    """Draw each scene into its file, in order; a file is whole or not there.

    Args:
        jobs: scenes, at their size, with their files.
        workers: processes at most. More than one only where `__main__` can be imported, as of a program.

    Yields:
        For each job, when its file is there, whether it was drawn now.

    Raises:
        OSError, pyvips.Error: a file cannot be written.
    """
    missing = [job for job in jobs if not job[1].exists()]
    workers = min(workers, len(missing) // _WORTH_A_PROCESS)
    if workers < 2:
        yield from map(_draw, jobs)
        return
    # Not forked: libvips has threads of its own.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread)
    try:
        drawn = pool.map(_draw, missing, chunksize=2)
        left = {path for _, path in missing}
        for _, path in jobs:
            yield path in left and next(drawn)
    finally:
        # After an interrupt nothing more is begun.
        pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    import pyvips

    pyvips.concurrency_set(1)


def _draw(job: tuple[SceneSample, Path]) -> bool:
    import pyvips

    made, path = job
    if path.exists():
        return False
    partial = path.with_suffix(".part.jpg")
    pyvips.Image.new_from_array(made.render()).write_to_file(str(partial), Q=QUALITY)
    partial.replace(path)
    return True
