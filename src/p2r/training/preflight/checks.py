"""All checks of a recipe, each with what to do about it.

None of them needs a GPU; a model that is too large for this machine is not called, and the result says so.
Nothing is written outside temporary folders, except scenes that the recipe keeps in a folder of its own.
"""

from __future__ import annotations

import statistics
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from p2r.checks import CheckResult
from p2r.errors import InputError, P2RError
from p2r.parsing.numbers import read_quantity
from p2r.training.data import (
    EXACT,
    find_samples,
    load_data,
    measure_prompts,
    settings_of,
    token_limits,
    unreadable_images,
)
from p2r.training.frozen import check_shared_weights
from p2r.training.preflight.construction import check_trainer, empty_model
from p2r.training.preflight.dry_run import check_calls, check_step, skipped
from p2r.training.preflight.resources import check_disk, check_memory, device, processes_of
from p2r.training.recipe import ONE_PASS
from p2r.training.run import find_start

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from p2r.settings import Settings
    from p2r.training.recipe import Phase, Recipe
    from p2r.types import Sample

    Tell = Callable[[str], None]

SCENES = 32  # that are drawn for a check
GROUPS = 8  # of the dry run
SMALL = 300_000_000  # weights that a CPU can generate with
_NAMED = 3  # offenders that a result names


@dataclass(frozen=True, slots=True)
class Start:
    """The model that a run starts from: its folder, the settings of the run, and its number of weights."""

    folder: Path
    settings: Settings
    parameters: int


def run_checks(
    recipe: Recipe, out: Path | None, *, groups: int = GROUPS, tell: Tell
) -> Iterator[CheckResult]:
    """All checks in order; one that depends on a failed one is skipped, and says so.

    Args:
        out: the run folder that is meant; None for the current folder.
        groups: of rollouts in the dry run.
        tell: called with a description of the current work.
    """
    results: list[CheckResult] = []
    with tempfile.TemporaryDirectory(prefix="p2r-check-") as scratch:
        for result in _checks(recipe, out or Path.cwd(), Path(scratch), groups, tell, results):
            results.append(result)
            yield result


def _checks(
    recipe: Recipe, out: Path, scratch: Path, groups: int, tell: Tell, before: Sequence[CheckResult]
) -> Iterator[CheckResult]:
    roles = list({phase.role: phase for _, phase in recipe.plan()}.values())
    processes = yield from check_plan(recipe, roles)
    start = yield from check_model(recipe, tell)
    found = yield from check_data(recipe, scratch, tell)
    if found is None:
        yield skipped("images, prompts and rewards", "there are no samples")
        return
    source, samples = found
    images = check_images(samples, tell)
    yield images
    yield from check_answers(samples, recipe.judge)
    if start is None:
        yield skipped("prompts, memory, disk and rewards", "the model is missing")
        return
    if images.state == "failure":
        yield skipped("prompts and rewards", "images are missing")
        return
    yield from check_prompts(recipe, roles, start, samples, tell)
    name, memory = device()
    if processes is not None:
        most = 0
        for phase in roles:
            tell(f"constructing the trainer of the {phase.role}")
            trained = yield from check_trainer(recipe, phase, start.settings, start.folder, processes)
            if trained is not None:
                yield check_memory(recipe, phase, start.parameters, trained, name, memory)
                most = max(most, trained)
        if most:
            yield check_disk(recipe, start.parameters, most, out)
    small = start.parameters <= SMALL
    folder = start.folder if small or name != "cpu" else None
    yield from check_calls(recipe, roles, samples, start.settings, folder, groups=groups, tell=tell)
    if any(result.state == "failure" for result in before):
        yield skipped("steps of training", "a check before this one failed")
    elif not small:
        yield skipped("steps of training", "the model is too large; the first step of the run shows it")
    else:
        for phase in roles:
            tell(f"one step of the {phase.role}")
            yield check_step(recipe, phase, source, scratch)


def check_plan(recipe: Recipe, roles: Sequence[Phase]) -> Generator[CheckResult, None, int | None]:
    """Do batches divide, and can the frozen role share weights? Returns the number of processes."""
    from p2r.training.trl import check_batch

    try:
        processes = processes_of(recipe)
    except InputError as error:
        yield CheckResult("recipe", "failure", str(error), "launch.config: ddp, fsdp2 or zero3, or a file")
        return None
    for phase in roles:
        name = f"recipe, {phase.role}"
        try:
            check_batch(phase, processes.count)
        except InputError as error:
            yield CheckResult(name, "failure", str(error))
            continue
        detail = f"{phase.completions} rollouts a step, {processes.count} processes"
        yield CheckResult(name, "ok", f"{detail} × {phase.micro_batch} at a time")
    if recipe.frozen.where == "process":
        both = [phase for phase in roles if phase.role not in ONE_PASS]
        reference = recipe.lora is not None or all(phase.kl for phase in both)
        try:
            check_shared_weights(sharded=processes.sharded, reference=reference)
        except InputError as error:
            yield CheckResult("recipe, frozen role", "failure", str(error))
    return processes.count


def check_model(recipe: Recipe, tell: Tell) -> Generator[CheckResult, None, Start | None]:
    """Find the model and its settings; returns them."""
    tell("reading the model")
    try:
        settings, folder = settings_of(recipe), find_start(recipe.model)
        parameters = sum(weights.numel() for weights in empty_model(folder).parameters())
    except P2RError as error:
        yield CheckResult("model", "failure", str(error), "see the recipe's keys model and settings")
        return None
    yield CheckResult("model", "ok", f"{folder}: {_count(parameters)} weights")
    return Start(folder, settings, parameters)


# The data.


def check_data(
    recipe: Recipe, scratch: Path, tell: Tell
) -> Generator[CheckResult, None, tuple[Path, list[Sample]] | None]:
    """Read the samples, or draw some of the scenes; returns their file and them."""
    data, few = recipe.data, ""
    if data.scenes and data.scenes.count > SCENES:
        few = f" of {data.scenes.count} scenes, drawn for this check"
        data = data.model_copy(update={"scenes": data.scenes.model_copy(update={"count": SCENES})})
    try:
        source = find_samples(recipe.model_copy(update={"data": data}), scratch, tell)
        tell("reading samples")
        samples, record = load_data(recipe, source)
    except InputError as error:
        yield CheckResult("data", "failure", str(error), "correct the line, or the recipe's data")
        return None
    types = ", ".join(f"{count} {kind}" for kind, count in Counter(record.answer_types).most_common())
    detail = f"{record.samples} samples{few}: {types}; {record.gold_boxes} with gold boxes"
    yield CheckResult("data", "ok", "; ".join([detail, *record.notes]))
    return source, samples


def check_images(samples: Sequence[Sample], tell: Tell) -> CheckResult:
    """Open and decode every image once, at a size that needs all of its bytes and little memory."""
    images, broken = unreadable_images(samples, tell, decode=True)
    if not broken:
        return CheckResult("images", "ok", f"{images} images open")
    detail = f"{len(broken)} of {images} images cannot be read: {_named(broken, '; ')}"
    return CheckResult("images", "failure", detail, "restore them, or take their samples out of the data")


def check_answers(samples: Sequence[Sample], judge: str | None) -> Iterator[CheckResult]:
    """Can each answer be scored?"""
    free = [sample.question.id for sample in samples if sample.question.answer_type == "free"]
    if free and judge is None:
        detail = f"{len(free)} of {len(samples)} answers are free-form, and the recipe has no judge"
        hint = f"set judge to a model, or to {EXACT} if only equal texts shall count"
        yield CheckResult("answers", "failure", f"{detail}: {_named(free)}", hint)
    unreadable = [
        f"{sample.question.id} ({sample.answer[:30]!r})"
        for sample in samples
        if sample.question.answer_type == "number" and isinstance(read_quantity(sample.answer), str)
    ]
    if unreadable:
        detail = f"{len(unreadable)} gold answers of type number are none: {_named(unreadable)}"
        hint = "only equal texts, or a judge, can reward them: correct them, or set their answer_type to free"
        yield CheckResult("answers", "warning", detail, hint)
    elif judge is not None or not free:
        note = f", {len(free)} of them free-form" if free else ""
        yield CheckResult("answers", "ok", f"all {len(samples)} can be scored{note}")


def check_prompts(
    recipe: Recipe, roles: Sequence[Phase], start: Start, samples: Sequence[Sample], tell: Tell
) -> Iterator[CheckResult]:
    """Measure every prompt as the phases do, and count the steps."""
    from p2r.models.checkpoint import read_part
    from p2r.models.encoding import PromptEncoder
    from p2r.training.trl import load_processor, phase_steps

    settings = start.settings
    try:
        processor = load_processor(start.folder, settings)
        config = read_part("AutoConfig", start.folder)
    except P2RError as error:
        yield CheckResult("prompts", "failure", str(error), "see the model folder and the key settings")
        return
    encoder = PromptEncoder(processor, config, str(start.folder), settings.options)
    for phase in roles:
        tell(f"measuring the prompts of the {phase.role}")
        lengths, most = measure_prompts(samples, recipe, phase, settings, encoder, processor)
        yield _check_lengths(recipe, phase, samples, lengths, most)
        name, scenes = f"steps, {phase.role}", recipe.data.scenes is not None
        try:
            steps = phase_steps(phase, sum(length <= most for length in lengths))
        except InputError as error:
            if not scenes:  # of which the run draws more
                yield CheckResult(name, "failure", str(error), "see training.steps")
            continue
        if phase.steps or not scenes:
            new = max(token_limits(phase, settings).values())
            tokens = phase.completions * (statistics.median(lengths) + new)
            yield CheckResult(name, "ok", f"{steps} steps of up to {_count(tokens)} tokens")


def _check_lengths(
    recipe: Recipe, phase: Phase, samples: Sequence[Sample], lengths: Sequence[int], most: int
) -> CheckResult:
    name = f"prompts, {phase.role}"
    detail = (
        f"{min(lengths)} to {max(lengths)} tokens after resizing, half of them up to "
        f"{statistics.median_high(lengths)}"
    )
    long = [one.question.id for one, length in zip(samples, lengths, strict=True) if length > most]
    if not long:
        return CheckResult(name, "ok", f"{detail}; none is left out (up to {most} fit)")
    share = len(long) / len(samples)
    detail += f"; {len(long)} are longer than {most} and left out ({100 * share:.1f} %): {_named(long)}"
    hint = "raise data.max_prompt_tokens, or lower settings.budget (overview_max_pixels, crop_max_pixels)"
    return CheckResult(name, "failure" if share > recipe.data.max_dropped else "warning", detail, hint)


def _named(offenders: Sequence[str], between: str = ", ") -> str:
    """The first of them, and how many more there are."""
    more = f"{between}and {len(offenders) - _NAMED} more" if len(offenders) > _NAMED else ""
    return between.join(offenders[:_NAMED]) + more


def _count(number: float) -> str:
    for unit, size in (("billion", 1e9), ("million", 1e6), ("thousand", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f}"
