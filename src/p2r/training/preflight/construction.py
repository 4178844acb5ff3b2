"""The part of a preflight that constructs what a phase constructs, with the phase's own builders.

TRL's configuration, the model as it is trained (without its weights), and the parameters of an engine that
writes rollouts; with a small model a whole step of one prompt. What they raise would have ended the run.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import math
import warnings
from typing import TYPE_CHECKING, Any

from p2r.checks import CheckResult
from p2r.errors import P2RError
from p2r.training.launch import exception_line
from p2r.training.recipe import Data, Frozen, Launch, Rollouts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from p2r.settings import Settings
    from p2r.training.recipe import Phase, Recipe

_HINT = "change what it names; if that is not yours, report it with this line"
_STEP_SAMPLES = 8  # of which a step draws its prompt


def check_trainer(
    recipe: Recipe, phase: Phase, settings: Settings, start: Path, processes: int
) -> Iterator[CheckResult]:
    """Construct what a phase trains with, without its weights.

    Args:
        recipe, phase, settings: of the run.
        start: the weights that it starts from.
        processes: that the run will have.
    """
    name = f"trainer, {phase.role}"
    try:
        with quiet():
            config = _configured(recipe, phase, settings, start, processes)
            _construct(recipe, phase, start)
    except P2RError as error:
        yield CheckResult(name, "failure", str(error), "see the recipe's keys training, lora and attention")
        return
    except Exception as error:  # noqa: BLE001 - of TRL, transformers and peft: whatever would end the run
        yield CheckResult(name, "failure", exception_line(error), _HINT)
        return
    yield CheckResult(name, "ok", f"TRL, attention {recipe.attention or 'as the model has it'}")
    yield check_engine(f"rollouts, {phase.role}", recipe, config, start)


def _configured(recipe: Recipe, phase: Phase, settings: Settings, start: Path, processes: int) -> Any:
    from p2r.training.trl import configure

    # All processes' share in this one: the same batches in all.
    whole = phase.model_copy(update={"micro_batch": phase.micro_batch * processes})
    return configure(recipe, whole, settings, start, output=start, seed=recipe.seed)


def _construct(recipe: Recipe, phase: Phase, start: Path) -> None:
    from transformers.integrations import get_reporting_integration_callbacks

    from p2r.training import trl as building
    from p2r.training.preflight.memory import empty_model

    for callback in get_reporting_integration_callbacks(list(recipe.report_to)):
        callback()  # fails where its package is missing
    model = empty_model(start)
    building.speed_up(model, recipe.attention)
    if phase.freeze_vision:
        building.freeze_vision(model)
    if recipe.lora is not None:
        from peft import get_peft_model

        get_peft_model(model, building.adapter(recipe))


# The engine.


def check_engine(name: str, recipe: Recipe, config: Any, start: Path) -> CheckResult:
    """Are vLLM and the parameters that it would get for each rollout as it takes them?

    Args:
        name: of the finding.
        recipe: the run.
        config: TRL's, of the phase.
        start: the weights that the run starts from.
    """
    engine = recipe.rollouts.engine
    if engine == "transformers":
        return CheckResult(name, "ok", "written by transformers")
    from trl.import_utils import is_vllm_available

    if importlib.util.find_spec("vllm") is None:
        detail = f"{engine} needs vLLM in the Python that trains, and it is not there"
        return CheckResult(name, "failure", detail, "install vllm there, and run this check there")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        is_vllm_available()
    if engine == "vllm-colocate":
        try:
            with quiet():
                verify_parameters(sampling_parameters(config), start, config.vllm_max_model_length)
        except Exception as error:  # noqa: BLE001 - of vLLM: whatever would end the first step
            return CheckResult(name, "failure", f"vLLM refuses the rollouts: {exception_line(error)}", _HINT)
    if told:
        hint = "install a version that TRL supports, or look closely at the first step"
        return CheckResult(name, "warning", " ".join(str(told[0].message).split()), hint)
    return CheckResult(name, "ok", f"written by vLLM ({engine})")


def sampling_parameters(config: Any) -> dict[str, Any]:
    """What TRL gives to a vLLM in its own process for each rollout."""
    return {
        "n": 1,
        "repetition_penalty": config.repetition_penalty,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "top_k": config.top_k,
        "min_p": config.min_p or 0.0,
        "max_tokens": config.max_completion_length,
        "logprobs": 0,
        **(config.generation_kwargs or {}),
    }


def verify_parameters(parameters: dict[str, Any], start: Path, longest: int | None) -> None:
    """Have vLLM look at the parameters of a rollout, as it does when it gets one; raises what vLLM raises."""
    from vllm import SamplingParams
    from vllm.config import ModelConfig

    model = ModelConfig(model=str(start), max_model_len=longest)
    SamplingParams(**parameters).verify(model, None, None, None)


# A step.


def check_step(recipe: Recipe, phase: Phase, samples: Path, scratch: Path) -> CheckResult:
    """Generate, reward and train one prompt, in this process.

    Args:
        recipe, phase: of the run.
        samples: their file.
        scratch: a folder for what a run writes.
    """
    from p2r.training import run as rounds
    from p2r.training.session import Session

    name, out = f"step, {phase.role}", scratch / f"step-{phase.role}"
    try:
        with quiet():
            small = _smallest(recipe, phase, samples)
            rounds.make_folder(out)
            start, _ = rounds.open_run(small, out)
            folder = rounds.open_phase(small, out, 1, start)
            Session(folder.path).try_step()
    except P2RError as error:
        return CheckResult(name, "failure", str(error), "see what it names")
    except Exception as error:  # noqa: BLE001 - whatever would end the first step of the run
        return CheckResult(name, "failure", exception_line(error), _HINT)
    return CheckResult(name, "ok", f"1 prompt × {phase.group} rollouts: generated, rewarded and trained")


def _smallest(recipe: Recipe, phase: Phase, samples: Path) -> Recipe:
    """The recipe with one step of one prompt in one process, and nothing that is kept."""
    trainer = {**phase.trainer, "save_strategy": "no"}
    for parts in ("steps_per_generation", "generation_batch_size"):
        trainer.pop(parts, None)
    changes: dict[str, Any] = {
        "steps": 1,
        "prompts": 1,
        "micro_batch": math.gcd(phase.micro_batch, phase.group),
        "trainer": trainer,
    }
    frozen = recipe.frozen
    if frozen.where == "vllm":  # the same weights, here those of the reference
        frozen = Frozen(batch=phase.group)
        changes["kl"] = phase.kl or 0.01
    return recipe.model_copy(
        update={
            "data": Data(samples=str(samples), limit=_STEP_SAMPLES),
            "rounds": 1,
            "phases": [phase.model_copy(update=changes)],
            "frozen": frozen,
            "rollouts": Rollouts(),
            "launch": Launch(),
            "report_to": (),
        }
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep back what libraries print, log and advise."""
    from transformers.utils import logging as of_transformers

    level, bar = logging.root.manager.disable, of_transformers.is_progress_bar_enabled()
    logging.disable(logging.WARNING)
    of_transformers.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        if bar:
            of_transformers.enable_progress_bar()
