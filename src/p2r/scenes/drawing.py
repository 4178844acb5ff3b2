"""Draws scenes into JPEG files, on several cores where asked; what is there already is kept."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from typing import TYPE_CHECKING

from p2r.runs.files import replacing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from p2r.scenes.dataset import SceneSample

QUALITY = 92
_WORTH_A_PROCESS = 4  # images: to start one takes about as long


def draw_files(jobs: Sequence[tuple[SceneSample, Path]], *, workers: int = 1) -> Iterator[None]:
    """Draw each scene into its file, in order; a file is whole or not there. Yields as each is there.

    Args:
        jobs: scenes, at their size, with their files.
        workers: processes at most. More than one only where `__main__` can be imported, as of a program.

    Raises:
        OSError, pyvips.Error: a file cannot be written.
    """
    missing = [job for job in jobs if not job[1].exists()]
    paths = {path for _, path in missing}
    with _drawing(missing, min(workers, len(missing) // _WORTH_A_PROCESS)) as drawn:
        for _, path in jobs:
            if path in paths:
                next(drawn)
            yield


@contextmanager
def _drawing(jobs: Sequence[tuple[SceneSample, Path]], workers: int) -> Iterator[Iterator[None]]:
    if workers < 2:
        yield map(_draw, jobs)
        return
    others = active_children()
    # Not forked: libvips has threads of its own.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_begin)
    try:
        yield pool.map(_draw, jobs, chunksize=2)
    except BaseException:
        # An interrupt does not wait for images that are begun: a file is whole or not there.
        for process in active_children():
            if process not in others:
                process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    import pyvips

    pyvips.concurrency_set(1)
    # A pool's processes outlive a parent that is killed.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


def _draw(job: tuple[SceneSample, Path]) -> None:
    import pyvips

    made, path = job
    with replacing(path) as partial:
        pyvips.Image.new_from_array(made.render()).write_to_file(str(partial), Q=QUALITY)
