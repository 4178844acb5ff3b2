"""`p2r train RECIPE --check`: what would go wrong in a training, found before it is paid for.

One finding for each check, with its hint. Nothing here needs a GPU, except that a model which is too large
for this machine is not asked; the finding says so. Nothing is written outside temporary folders, but for
scenes that the recipe keeps in a folder of its own.
"""

from __future__ import annotations

import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from p2r.checks import CheckResult
from p2r.errors import InputError, P2RError
from p2r.training.data import draw_scenes, load_data, settings_of
from p2r.training.preflight.calls import check_calls, left_out
from p2r.training.preflight.construction import check_step, check_trainer
from p2r.training.preflight.data import check_answers, check_images, named
from p2r.training.preflight.memory import device, disk_needed, needed, processes_of, read_sizes
from p2r.training.preflight.resources import check_disk, check_memory
from p2r.training.recipe import Phase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from p2r.checks import State
    from p2r.settings import Settings
    from p2r.training.data import TrainingData
    from p2r.training.preflight.memory import Sizes
    from p2r.training.recipe import Recipe, Role
    from p2r.types import Sample

T = TypeVar("T")

OTHER: dict[Role, Role] = {"perceiver": "reasoner", "reasoner": "perceiver"}  # who is frozen
SCENES = 32  # that are drawn for a check
GROUPS = 8  # that are rehearsed
SMALL = 300_000_000  # weights that a CPU can be asked to generate with


class Preflight:
    """The checks of a recipe.

    Args:
        recipe: as loaded.
        out: the run folder that is meant; None for the current folder.
        groups: how many groups of rollouts are rehearsed.
        tell: is told what is being looked at.
    """

    def __init__(
        self, recipe: Recipe, out: Path | None, *, groups: int = GROUPS, tell: Callable[[str], None]
    ) -> None:
        self.recipe = recipe
        self._out = out or Path.cwd()
        self._groups = groups
        self._tell = tell
        self._roles = list({phase.role: phase for _, phase in recipe.plan()}.values())
        self._settings: Settings | None = None
        self._start: Path | None = None
        self._sizes: Sizes | None = None
        self._longest: dict[str, int] = {}
        self._failed = False  # any check so far

    def run(self) -> Iterator[CheckResult]:
        """All checks, one after the other; one that rests on a failed one says that it was left out."""
        for finding in self._checks():
            self._failed |= finding.state == "failure"
            yield finding

    def _checks(self) -> Iterator[CheckResult]:
        with tempfile.TemporaryDirectory(prefix="p2r-check-") as scratch:
            yield from self._plan()
            yield from self._model()
            data: TrainingData | None = None
            for found in self._data(Path(scratch)):
                if isinstance(found, CheckResult):
                    yield found
                else:
                    data = found
            if data is None:
                yield left_out("images, prompts and rewards", "there are no samples")
                return
            images = check_images(data.samples, self._tell)
            yield images
            yield from check_answers(data.samples, self.recipe.judge)
            if self._start is None or self._sizes is None or self._settings is None:
                yield left_out("prompts, memory, disk and rewards", "the model is not there")
                return
            if images.state == "failure":
                yield left_out("prompts and rewards", "images are missing")
                return
            yield from self._prompts(data.samples)
            yield from self._memory()
            yield check_disk(disk_needed(self._sizes, self.recipe), self._out)
            yield from self._trainers()
            yield from check_calls(
                self.recipe,
                self._roles,
                data.samples,
                self._settings,
                self._start,
                small=self._sizes.parameters <= SMALL or device()[0] != "cpu",
                groups=self._groups,
                tell=self._tell,
            )
            yield from self._steps(data.source, Path(scratch))

    # What is planned.

    def _plan(self) -> Iterator[CheckResult]:
        try:
            spread = processes_of(self.recipe)
        except InputError as error:
            yield CheckResult(
                "recipe", "failure", str(error), "give a configuration as in recipes/accelerate"
            )
            return
        for phase in self._roles:
            rows, step = phase.prompts * phase.group, phase.micro_batch * spread.count
            detail = (
                f"{phase.prompts} prompts × {phase.group} rollouts a step, {spread.count} processes × "
                f"{phase.micro_batch} at a time"
            )
            if rows % step:
                hint = f"change micro_batch so that processes × micro_batch divides {rows}"
                yield CheckResult(f"recipe, {phase.role}", "failure", f"{detail} do not divide them", hint)
            else:
                yield CheckResult(f"recipe, {phase.role}", "ok", detail)
        if self.recipe.frozen.where == "process" and (problem := self._not_shared(spread.sharded)):
            yield CheckResult("recipe, frozen role", "failure", *problem)

    def _not_shared(self, sharded: bool) -> tuple[str, str] | None:
        if sharded:
            return "frozen.where: process needs whole weights", "set frozen.where to vllm or endpoint"
        if self.recipe.lora is None and any(
            not phase.kl for phase in self._roles if phase.role in ("perceiver", "reasoner")
        ):
            hint = "set training.kl, or frozen.where to vllm or endpoint"
            return "frozen.where: process shares the KL reference, and kl 0 has none", hint
        return None

    def _model(self) -> Iterator[CheckResult]:
        from p2r.training.run import find_start

        self._tell("looking at the model")
        try:
            self._settings = settings_of(self.recipe)
            self._start = find_start(self.recipe.model)
            self._sizes = sizes = read_sizes(self._start, self.recipe)
        except P2RError as error:
            yield CheckResult(
                "model", "failure", str(error), "see the recipe's keys model, settings and lora"
            )
            return
        trained = max(sizes.trained(phase) for phase in self._roles)
        how = "with adapters" if self.recipe.lora else "in all"
        detail = f"{self._start}: {_count(sizes.parameters)} weights, {_count(trained)} of them trained {how}"
        yield CheckResult("model", "ok", detail.replace(" of them trained with", " trained with"))

    # The data.

    def _data(self, scratch: Path) -> Iterator[CheckResult | TrainingData]:
        recipe, scenes = self.recipe, self.recipe.data.scenes
        self._tell("reading samples")
        try:
            if recipe.data.samples is not None:
                source, few = Path(recipe.data.samples), ""
            elif scenes is not None:
                count = min(SCENES, scenes.count)
                folder = Path(scenes.folder) if scenes.folder else scratch
                source = draw_scenes(
                    folder,
                    scenes.model_copy(update={"count": count}),
                    lambda done: self._tell(f"drawing scenes: {done} of {count}"),
                )
                few = f" of {scenes.count} scenes, drawn for this check" if count < scenes.count else ""
            data = load_data(recipe, source)
        except InputError as error:
            yield CheckResult("data", "failure", str(error), "mend the line, or the recipe's data")
            return
        kinds = Counter(sample.question.answer_type for sample in data.samples)
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        gold = sum(sample.boxes is not None for sample in data.samples)
        notes = "".join(f"; {note}" for note in data.notes)
        detail = f"{len(data.samples)} samples{few}: {told}; {gold} with gold boxes{notes}"
        yield CheckResult("data", "ok", detail)
        yield data

    # The model's side.

    def _prompts(self, samples: Sequence[Sample]) -> Iterator[CheckResult]:
        from p2r.models.checkpoint import read_part
        from p2r.models.encoding import PromptEncoder
        from p2r.training.data import prompt_tokens
        from p2r.training.trl import completion_tokens, load_processor, phase_steps

        start, settings = _known(self._start), _known(self._settings)
        try:
            processor = load_processor(start, settings)
            config = read_part("AutoConfig", start)
        except P2RError as error:
            yield CheckResult("prompts", "failure", str(error), "see the model folder and the key settings")
            return
        encoder = PromptEncoder(processor, config, str(start), settings.options)
        context = int(config.get_text_config().max_position_embeddings)
        for phase in self._roles:
            new = completion_tokens(phase, settings)
            lengths = []
            for done, sample in enumerate(samples, start=1):
                self._tell(f"prompts of the {phase.role}: {done} of {len(samples)}")
                lengths.append(prompt_tokens(sample, phase, settings, encoder, processor))
            most = self.recipe.data.max_prompt_tokens or context - new
            self._longest[phase.role] = min(max(lengths), most)
            yield self._fitting(phase, samples, lengths, most)
            try:
                steps = phase_steps(phase, sum(length <= most for length in lengths))
            except InputError as error:
                if self.recipe.data.scenes is None:
                    yield CheckResult(f"steps, {phase.role}", "failure", str(error), "see training.steps")
                continue
            tokens = phase.prompts * phase.group * (statistics.median(lengths) + new)
            detail = f"{steps} steps of up to {_count(tokens)} tokens"
            if self.recipe.data.scenes is None or phase.steps:
                yield CheckResult(f"steps, {phase.role}", "ok", detail)
        for phase in self._roles:
            other = OTHER.get(phase.role)
            if self.recipe.frozen.where == "process" and other and other not in self._longest:
                asked = phase.model_copy(update={"role": other})
                self._longest[other] = max(
                    prompt_tokens(sample, asked, settings, encoder, processor) for sample in samples
                )

    def _fitting(
        self, phase: Phase, samples: Sequence[Sample], lengths: Sequence[int], most: int
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
        detail += f"; {len(long)} are longer than {most} and left out ({100 * share:.1f} %): {named(long)}"
        state: State = "failure" if share > self.recipe.data.max_dropped else "warning"
        hint = "raise data.max_prompt_tokens, or lower settings.budget (overview_max_pixels, crop_max_pixels)"
        return CheckResult(name, state, detail, hint)

    def _memory(self) -> Iterator[CheckResult]:
        from p2r.training.trl import completion_tokens

        sizes, settings = _known(self._sizes), _known(self._settings)
        for phase in self._roles:
            if phase.role not in self._longest:
                continue
            frozen = (0, 0)
            if other := OTHER.get(phase.role):
                frozen = self._longest.get(other, 0), completion_tokens(Phase(role=other), settings)
            new = completion_tokens(phase, settings)
            need = needed(sizes, self.recipe, phase, self._longest[phase.role], new, frozen)
            yield check_memory(f"memory, {phase.role}", self.recipe, need, *device())

    # What the run constructs.

    def _trainers(self) -> Iterator[CheckResult]:
        try:
            processes = processes_of(self.recipe).count
        except InputError:  # told with the plan
            return
        for phase in self._roles:
            self._tell(f"constructing the trainer of the {phase.role}")
            yield from check_trainer(
                self.recipe, phase, _known(self._settings), _known(self._start), processes
            )

    def _steps(self, samples: Path, scratch: Path) -> Iterator[CheckResult]:
        if self._failed:
            yield left_out("steps of training", "a check before this one failed")
        elif _known(self._sizes).parameters > SMALL:
            yield left_out("steps of training", "the model is too large; the run's first step is the proof")
        else:
            for phase in self._roles:
                self._tell(f"one step of the {phase.role}")
                yield check_step(self.recipe, phase, samples, scratch)


def _known(value: T | None) -> T:
    if value is None:  # the checks before have left it there, or ended the run
        raise InputError("a check before this one failed")
    return value


def _count(number: float) -> str:
    for unit, size in (("billion", 1e9), ("million", 1e6), ("thousand", 1e3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return f"{number:.0f}"
