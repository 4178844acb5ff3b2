"""The part of a preflight that looks at the data: do the images open, can the answers be scored?"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from p2r.checks import CheckResult
from p2r.errors import InputError
from p2r.images import ImageSource
from p2r.parsing.numbers import read_quantity
from p2r.training.dataset import EXACT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from p2r.types import Sample

NAMED = 3  # offenders that a finding names


def check_images(samples: Sequence[Sample], tell: Callable[[str], None]) -> CheckResult:
    """Open and decode every image once, at a size that takes all of its bytes and little memory."""
    images = {str(sample.question.image)[:500]: sample for sample in samples}
    broken: list[str] = []

    def look(sample: Sample) -> None:
        try:
            ImageSource.open(sample.question.image).overview((32, 32))
        except InputError as error:
            broken.append(f"sample {sample.question.id}: {error}")

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(look, images.values()), start=1):
            tell(f"opening images: {done} of {len(images)}")
    if not broken:
        return CheckResult("images", "ok", f"{len(images)} images open")
    detail = f"{len(broken)} of {len(images)} images cannot be read: {named(sorted(broken), '; ')}"
    return CheckResult("images", "failure", detail, "restore them, or take their samples out of the data")


def check_answers(samples: Sequence[Sample], judge: str | None) -> Iterator[CheckResult]:
    """Is there somebody who can score each answer?"""
    free = [sample.question.id for sample in samples if sample.question.answer_type == "free"]
    if free and judge is None:
        detail = (
            f"{len(free)} of {len(samples)} answers are free-form, and the recipe has no judge: {named(free)}"
        )
        hint = f"set judge to a model, or to {EXACT} if only equal texts shall count"
        yield CheckResult("answers", "failure", detail, hint)
    unreadable = [f"{one.question.id} ({one.answer[:30]!r})" for one in samples if _is_no_number(one)]
    if unreadable:
        detail = f"{len(unreadable)} gold answers of type number are none: {named(unreadable)}"
        hint = "only equal texts, or a judge, can reward them: mend them, or set their answer_type to free"
        yield CheckResult("answers", "warning", detail, hint)
    if not unreadable and (judge is not None or not free):
        how = f", {len(free)} of them free-form" if free else ""
        yield CheckResult("answers", "ok", f"all {len(samples)} can be scored{how}")


def named(offenders: Sequence[str], between: str = ", ") -> str:
    """The first of them, and how many more there are."""
    more = f"{between}and {len(offenders) - NAMED} more" if len(offenders) > NAMED else ""
    return between.join(offenders[:NAMED]) + more


def _is_no_number(sample: Sample) -> bool:
    return sample.question.answer_type == "number" and isinstance(read_quantity(sample.answer), str)
