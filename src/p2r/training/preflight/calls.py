"""The part of a preflight that asks models: the frozen role, the judge, and a rehearsal of each phase."""

from __future__ import annotations

import asyncio
import statistics
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from p2r.checks import CheckResult
from p2r.errors import InputError, ModelError, P2RError
from p2r.models.loading import open_model
from p2r.scoring.judge import Judge
from p2r.training.data import EXACT
from p2r.training.frozen import open_endpoint
from p2r.training.preflight.dry_run import ask_reasoner, rehearse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from p2r.models.base import Model
    from p2r.settings import Settings
    from p2r.training.recipe import Phase, Recipe
    from p2r.types import Sample

_ELSEWHERE = "run this check where it will be trained"


def left_out(name: str, why: str, hint: str = "") -> CheckResult:
    """A check that could not be made."""
    return CheckResult(name, "warning", f"not looked at: {why}", hint)


def check_calls(
    recipe: Recipe,
    roles: Sequence[Phase],
    samples: Sequence[Sample],
    settings: Settings,
    start: Path,
    *,
    small: bool,
    groups: int,
    tell: Callable[[str], None],
) -> Iterator[CheckResult]:
    """Ask everybody who takes part in a training.

    Args:
        recipe: the run.
        roles: one phase of each role.
        samples, settings: of the run.
        start: the weights that it starts from.
        small: this machine can generate with them.
        groups: how many groups of rollouts are rehearsed.
        tell: is told what is being done.
    """
    calls = _Calls(recipe, roles, samples, settings, groups, tell)
    findings = calls.run(str(start) if small else None)
    with asyncio.Runner() as runner:
        try:
            while True:
                yield runner.run(_next(findings))
        except StopAsyncIteration:
            return
        finally:
            runner.run(_close(findings))


async def _next(findings: AsyncIterator[CheckResult]) -> CheckResult:
    return await anext(findings)


async def _close(findings: AsyncIterator[CheckResult]) -> None:
    close = getattr(findings, "aclose", None)
    if close is not None:
        await close()


class _Calls:
    def __init__(
        self,
        recipe: Recipe,
        roles: Sequence[Phase],
        samples: Sequence[Sample],
        settings: Settings,
        groups: int,
        tell: Callable[[str], None],
    ) -> None:
        self._recipe = recipe
        self._roles = roles
        self._samples = samples
        self._settings = settings
        self._groups = groups
        self._tell = tell

    async def run(self, policy_spec: str | None) -> AsyncIterator[CheckResult]:
        """The findings, one after the other; whatever was opened is closed at the end."""
        async with AsyncExitStack() as opened:
            policy = frozen = None
            try:
                if policy_spec is not None:
                    self._tell("opening the model")
                    policy = open_model(policy_spec, options=self._settings.options)
                    opened.push_async_callback(policy.aclose)
                if self._recipe.frozen.where == "endpoint":
                    frozen = open_endpoint(self._recipe, self._settings)
                    opened.push_async_callback(frozen.aclose)
            except P2RError as error:
                yield CheckResult("models", "failure", str(error), "see `p2r doctor --model`", of_model=True)
                return
            async for finding in self._frozen(policy, frozen):
                yield finding
            judge, finding = await self._judge(opened)
            yield finding
            writer = policy or frozen
            for phase in self._roles:
                name = f"rewards, {phase.role}"
                if writer is None:
                    yield left_out(name, "the model is too large for a machine without a GPU", _ELSEWHERE)
                elif finding.state == "failure":
                    yield left_out(name, "the judge does not answer")
                else:
                    yield await self._rehearsed(name, phase, writer, frozen, judge)

    async def _frozen(self, policy: Model | None, frozen: Model | None) -> AsyncIterator[CheckResult]:
        if all(phase.role in ("think", "direct") for phase in self._roles):
            return
        if self._recipe.frozen.where == "vllm":
            yield _vllm()
        asked = frozen or policy
        if asked is None:
            yield left_out("frozen role", "the model is too large for a machine without a GPU", _ELSEWHERE)
            return
        self._tell("asking the frozen role")
        try:
            reply = await ask_reasoner(asked, self._samples[0], self._settings)
        except P2RError as error:
            hint = "start it, or mend frozen.url" if frozen else "see `p2r doctor --model`"
            yield CheckResult("frozen role", "failure", str(error), hint, of_model=True)
            return
        detail = f"{asked.name} answers: {reply.prompt_tokens} tokens in, {reply.completion_tokens} out"
        if reply.finish_reason == "length":
            hint = "raise settings.max_tokens.reason, or use a model that keeps to the answer's form"
            yield CheckResult(
                "frozen role", "warning", f"{detail}, cut off at the limit", hint, of_model=True
            )
        else:
            yield CheckResult("frozen role", "ok", detail, of_model=True)

    async def _judge(self, opened: AsyncExitStack) -> tuple[Judge | None, CheckResult]:
        spec = self._recipe.judge
        if spec is None or spec == EXACT:
            return None, CheckResult("judge", "ok", "none: texts have to match")
        self._tell("asking the judge")
        asked, gold = "What color is the door?", "dark green"
        try:
            model = open_model(spec, max_concurrency=self._recipe.frozen.concurrency)
            opened.push_async_callback(model.aclose)
            judge = Judge(model)
            yes = await judge.verdict(asked, gold, "It is dark green.")
            no = await judge.verdict(asked, gold, "It is red.")
        except P2RError as error:
            return None, CheckResult("judge", "failure", str(error), "start it, or mend judge", of_model=True)
        if (yes, no) == (True, False):
            return judge, CheckResult("judge", "ok", f"{model.name} tells right from wrong", of_model=True)
        told = {True: "yes", False: "no", None: "neither yes nor no"}
        detail = f"{model.name} says {told[yes]} to a right answer and {told[no]} to a wrong one"
        return judge, CheckResult("judge", "failure", detail, "take another judge", of_model=True)

    async def _rehearsed(
        self, name: str, phase: Phase, writer: Model, frozen: Model | None, judge: Judge | None
    ) -> CheckResult:
        from p2r.training.trl import reply_tokens

        self._tell(f"rehearsing the {phase.role}")
        try:
            done = await rehearse(
                phase,
                self._samples,
                self._settings,
                self._recipe.gates,
                writer,
                max_tokens=reply_tokens(phase, self._settings),
                groups=self._groups,
                seed=self._recipe.seed,
                frozen=frozen,
                judge=judge,
            )
        except ModelError as error:
            return CheckResult(name, "failure", str(error), "see `p2r doctor --model`", of_model=True)
        except InputError as error:
            return CheckResult(name, "failure", str(error), "mend the data")
        if done.errors:
            total = len(done.errors) + len(done.rewards)
            detail = f"{len(done.errors)} of {total} rollouts got no reward: {done.errors[0]}"
            return CheckResult(
                name, "failure", detail, "see to it: failed calls teach nothing", of_model=True
            )
        detail = (
            f"{len(done.groups)} groups of {phase.group}: reward {100 * statistics.mean(done.rewards):.0f} % "
            f"on average, rewards differ in {done.differing} of them"
        )
        if writer is frozen:
            detail += " (written by the endpoint of the frozen role)"
        if done.differing:
            return CheckResult(name, "ok", detail, of_model=True)
        hint = "groups without spread teach nothing: take harder or easier data, or a larger group"
        return CheckResult(name, "warning", detail, hint, of_model=True)


def _vllm() -> CheckResult:
    from p2r.models.vllm import VLLMServer

    try:
        program = VLLMServer("any").command(port=0)[0]
    except InputError as error:
        what, _, hint = str(error).partition(": ")
        return CheckResult("vllm", "failure", what, hint)
    return CheckResult("vllm", "ok", f"{program} is started with each phase")
