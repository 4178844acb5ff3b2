"""PRA-GRPO: rounds of phases, each in processes of its own, connected by checkpoint folders.

The state of everything is in the run folder, so the same command continues wherever a run was stopped: in a
phase from its last complete checkpoint, between phases at the next one.
"""

from __future__ import annotations

import json
import shutil
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

from p2r.errors import InputError, ModelError
from p2r.models.checkpoint import find_folder, locate
from p2r.models.loading import LOGINS
from p2r.models.options import split_spec
from p2r.runs.files import check_same_run, claim, folder_lock, read_run_file, write_file, write_json
from p2r.runs.provenance import revision, session
from p2r.training.data import prepare_data, settings_of
from p2r.training.export import model_card, stored_dtype, write_final
from p2r.training.launch import (
    FROZEN_KEY,
    FROZEN_URL,
    GRACE_S,
    STOPPED,
    exit_line,
    phase_processes,
    signal_name,
)
from p2r.training.progress import TrainingProgress
from p2r.training.recipe import ONE_PASS, dump_recipe
from p2r.training.run_folder import (
    DATA,
    ERROR,
    LOG,
    METRICS,
    MODEL,
    RECIPE,
    RUN,
    Checksums,
    DataRecord,
    PhaseError,
    PhaseFolder,
    PhaseState,
    RunRecord,
    checksums,
    damage,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from rich.console import Console

    from p2r.errors import ModelErrorKind
    from p2r.training.recipe import Launch, Recipe

    # Starts the processes of a phase; their exit code is None while they run.
    StartPhase = Callable[[Launch, Path, Mapping[str, str]], AbstractContextManager[Callable[[], int | None]]]

_POLL_S = 0.3
# What may differ when a run continues: how it is run, not what is computed.
_FREE = ("launch", "report_to", "failures", "frozen")


def train(
    recipe: Recipe,
    out: Path,
    console: Console,
    *,
    command: str = "",
    start_phase: StartPhase = phase_processes,
) -> Path:
    """Train a recipe, or continue; returns the folder of the final model.

    `command`, as the user gave it, is for `run.json`.

    Raises:
        InputError: the recipe, the data or the folder cannot be used, or the disk is full.
        ModelError: too many calls failed, or a server could not be started.
    """
    recipe, logins = recipe.without_logins()
    states = _states(recipe)
    _make_folder(out)
    with folder_lock(out), TrainingProgress(console, rounds=recipe.rounds, phases=len(states)) as progress:
        start, data = _open_run(recipe, out, command=command, on_progress=progress.doing)
        for note in data.notes:
            progress.say(f"data: {note}")
        folders = [PhaseFolder(out / "phases" / state.name) for state in states]
        if _is_finished(out, folders):
            return out / MODEL
        for state in states:
            folder = _open_phase(out, state, start, progress.say)
            if folder.state().status != "done":
                # Until the run has ended, a final model would be one of other weights.
                shutil.rmtree(out / MODEL, ignore_errors=True)
                _run_phase(recipe, folder, progress, start_phase, logins)
            start = folder.model
        return _finish(recipe, out, folders, progress)


def _states(recipe: Recipe) -> list[PhaseState]:
    """The states of all phases before they start."""
    return [
        PhaseState(number, round_, phase.role)
        for number, (round_, phase) in enumerate(recipe.plan(), start=1)
    ]


def _is_finished(out: Path, folders: Sequence[PhaseFolder]) -> bool:
    """Whether every phase is done, from the weights of the one before, and the model is the last one's."""
    weights: Checksums = {}
    for folder in folders:
        state = folder.state() if folder.is_begun() else None
        if state is None or state.status != "done" or state.start_weights not in ({}, weights):
            return False
        weights = state.weights
    # Runs of older versions have no checksums of the final model.
    final = RunRecord.read(out / RUN).model or {"of": weights, "files": {}}
    complete = final["of"] == weights and not damage(out / MODEL, final["files"])
    return complete and (out / MODEL / "config.json").is_file()


def find_start(spec: str) -> Path:
    """The folder of the weights that a run starts from; options in the spec are ignored."""
    return find_folder(locate(split_spec(spec)[0], spec)).resolve()


def first_phase(recipe: Recipe, out: Path) -> Path:
    """The folder of the first phase of a new run, for trying it without the rest of the run.

    Raises:
        InputError: the recipe, the data or the folder cannot be used.
    """
    _make_folder(out)
    start, _ = _open_run(recipe, out)
    return _open_phase(out, _states(recipe)[0], start, print).path


def _make_folder(out: Path) -> None:
    claim(out, RUN, (RECIPE, DATA, "phases", "scenes", MODEL))
    if (out / RUN).exists():
        read_run_file(out / RUN, "p2r train")
    try:
        (out / "phases").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {out}: {error.strerror}") from error
    if not (out / RUN).exists():
        write_json(out / RUN, RunRecord().to_json())


def _open_run(
    recipe: Recipe, out: Path, *, command: str = "", on_progress: Callable[[str], None] | None = None
) -> tuple[Path, DataRecord]:
    """Check data and model, and write down what the run is; returns the first weights and the data."""
    start = find_start(recipe.model)
    _, data = prepare_data(recipe, out, on_progress)
    identity = {
        "recipe": recipe.model_dump(mode="json", exclude=set(_FREE)),
        "frozen": recipe.frozen.where,
        "model_revision": revision(str(start)),
        "data": data.fingerprint,
        "digest": settings_of(recipe).digest,
    }
    run = RunRecord.read(out / RUN)
    if run.identity:
        check_same_run(out, run.identity, identity, what="settings or data")
    run.identity = identity
    run.sessions.append(session(command))
    write_json(out / RUN, run.to_json())
    write_file(out / RECIPE, dump_recipe(recipe))
    write_json(out / DATA, data.to_json())
    return start, data


def _open_phase(out: Path, state: PhaseState, start: Path, say: Callable[[str], None]) -> PhaseFolder:
    """The folder of a phase, made in its first state if it is not there.

    A phase that was trained from other weights than those that are at `start` now is trained again. One whose
    model was damaged continues from its last checkpoint.
    """
    state.start = str(start)
    if (before := PhaseFolder(start.parent)).is_begun():  # the start is the model of another phase
        state.start_weights = before.state().weights
    folder = PhaseFolder(out / "phases" / state.name)
    if folder.is_begun():
        known = folder.state()
        if known.start_weights and known.start_weights != state.start_weights:
            say(f"phase {state.name} is trained again: {start} holds other weights than it started with")
            shutil.rmtree(folder.path)
        elif known.status == "done" and (found := damage(folder.model, known.weights)):
            say(f"{folder.model} is damaged ({found}): it is made again from the phase's last checkpoint")
            known.status = "stopped"
            folder.write_state(known)
    folder.path.mkdir(exist_ok=True)
    if not folder.is_begun():
        folder.write_state(state)
    return folder


def _run_phase(
    recipe: Recipe,
    folder: PhaseFolder,
    progress: TrainingProgress,
    start_phase: StartPhase,
    logins: Mapping[str, str],
) -> None:
    state = folder.state()
    state.status, state.error, state.note = "running", "", ""
    state.sessions += 1
    folder.write_state(state)
    progress.on_phase(state)
    try:
        (folder.path / ERROR).unlink(missing_ok=True)
        log = folder.path / LOG
        before = log.stat().st_size if log.exists() else 0
        with ExitStack() as stack:
            environment = _serve_frozen(recipe, state, stack)
            if logins:
                environment[LOGINS] = json.dumps(logins)
            exit_code = stack.enter_context(start_phase(recipe.launch, folder.path, environment))
            try:
                code = _watch(exit_code, folder, progress)
            except KeyboardInterrupt:
                progress.say(f"a checkpoint is saved if that takes less than {GRACE_S:.0f} s")
                raise
        if code == STOPPED:
            raise KeyboardInterrupt
        if code:
            raise _failure(folder, code, before)
    except BaseException as error:
        state = folder.state()
        if state.status != "done":
            state.status, state.error = "stopped", str(error) or type(error).__name__
            folder.write_state(state)
        raise


def _serve_frozen(recipe: Recipe, state: PhaseState, stack: ExitStack) -> dict[str, str]:
    """Start a vLLM with the weights that the phase starts from, when the recipe wants one."""
    if recipe.frozen.where != "vllm" or state.role in ONE_PASS:
        return {}
    from p2r.models.vllm import VLLMServer

    server = VLLMServer(
        state.start,
        arguments=recipe.frozen.vllm_arguments,
        gpus=recipe.frozen.gpus,
        grace_s=5.0,  # of the 30 s that batch systems give, the processes of the phase have had most
    )
    stack.callback(server.stop)
    server.start()
    return {FROZEN_URL: f"{server.base_url}#{server.name}", FROZEN_KEY: server.api_key}


def _watch(exit_code: Callable[[], int | None], folder: PhaseFolder, progress: TrainingProgress) -> int:
    """Show what the processes write until they end; returns their exit code."""
    shown, seen, note = folder.state().step, -1, ""
    path = folder.path / METRICS
    while True:
        code = exit_code()
        state = folder.state()
        if state.note != note:
            note = state.note
            progress.say(note)
        size = path.stat().st_size if path.exists() else 0
        if size != seen:
            seen = size
            for row in folder.metrics():
                if row.step > shown:
                    shown = row.step
                    progress.on_step(state, row)
        if code is not None:
            return code
        time.sleep(_POLL_S)


def _failure(folder: PhaseFolder, code: int, before: int) -> InputError | ModelError:
    """Why the processes of a phase ended; the first `before` bytes of their log are of earlier ones."""
    path, log = folder.path / ERROR, folder.path / LOG
    output = log.read_bytes()[before:].decode(errors="replace") if log.exists() else ""
    # Processes whose peer was killed fail too, and write an error.
    if path.exists() and not signal_name(code, output):
        error = PhaseError.read(path)
        if error.model_error:
            return ModelError(error.message, kind=cast("ModelErrorKind", error.model_error))
        return InputError(error.message)
    return ModelError(
        f"phase {folder.path.name}: {exit_line(code, output)}; what was printed is in {log}; the same "
        "command continues from the last checkpoint",
        kind="internal",
    )


def _finish(recipe: Recipe, out: Path, folders: Sequence[PhaseFolder], progress: TrainingProgress) -> Path:
    model, run = out / MODEL, RunRecord.read(out / RUN)
    progress.doing("writing the final model")
    card = model_card(recipe, run, DataRecord.read(out / DATA), folders)
    write_final(folders[-1].model, model, stored_dtype(find_start(recipe.model)), card)
    # Of its weights: a person may edit the card.
    weights = {name: sum_ for name, sum_ in checksums(model).items() if name.endswith(".safetensors")}
    run.model = {"of": folders[-1].state().weights, "files": weights}
    write_json(out / RUN, run.to_json())
    return model
