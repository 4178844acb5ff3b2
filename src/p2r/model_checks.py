"""Checks of a model for `p2r doctor`: it answers, it writes boxes in the format that is set, the images fit.

The box format is found by scenes with one known object at a place where exchanged x and y, or another scale,
lead somewhere else. A format fits a reply if a crop that is cut from its boxes shows the object.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import TYPE_CHECKING

import numpy as np

from p2r.checks import CheckResult
from p2r.errors import ModelError, P2RError
from p2r.evidence import crop_region, plan_sizes
from p2r.images import EncodedImage
from p2r.models.base import Sampling
from p2r.parsing import parse_perception, split_thinking
from p2r.pipeline import P2R
from p2r.prompts import perceive_messages, reason_messages
from p2r.scenes import make_sample
from p2r.scoring.localization import localize
from p2r.types import BOX_FORMATS, Box, Crop, Evidence, Question

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from p2r.checks import State
    from p2r.errors import ModelErrorKind
    from p2r.evidence import PixelPlan
    from p2r.models.base import Model
    from p2r.scenes import SceneSample
    from p2r.settings import Settings
    from p2r.types import BoxFormat, PerceptionOutcome

PROBES = 6
_PROBE_SIZE = "1280x720"
_PROBE_SEED = 11  # of scenes that no benchmark of ours uses
_LARGE = (7680, 4320)
_WHOLE = Box(0, 0, 1000, 1000)
_PROMPT_TOKENS = 512  # of the longest prompt that is likely, without images
_THINKING = "if it thinks, add ,thinking=off or ,thinking_tokens=4096 to the model's name"
_HINTS: dict[ModelErrorKind, str] = {
    "unreachable": "start the server, or correct the address: http://HOST:PORT/v1#NAME",
    "timeout": "the server is too slow or stuck: see its log",
    "rejected": "the message says why; the key of a server is read from P2R_API_KEY or OPENAI_API_KEY",
    "overloaded": "try again later, or send fewer requests at once",
    "server": "see the server's log",
    "invalid_reply": "it is no OpenAI-compatible server, or a proxy changes its replies",
    "internal": "run p2r answer --debug with this model to see the trace",
}


async def check_model(model: str | Model, settings: Settings | None = None) -> list[CheckResult]:
    """Send a model a question about a scene, the probes of its box format, and the largest request.

    Args:
        model: as in `P2R`.
        settings: None for those that come with the model.
    """
    name = model if isinstance(model, str) else model.name
    try:
        async with P2R(model, settings=settings) as p2r:
            context_tokens = getattr(p2r.reasoner, "context_tokens", None)
            checks = _ModelChecks(name, p2r, await context_tokens() if context_tokens else None)
            try:
                answers = await checks.answers()
            except P2RError as error:
                # Whatever fails a first question would fail the other checks as well.
                return [checks.too_large(error) or _failed(f"{name} answers", error)]
            return [*checks.placement(), answers, await checks.boxes(), await checks.budgets()]
    except P2RError as error:
        return [_failed(f"{name} opens", error)]


def _failed(name: str, error: P2RError) -> CheckResult:
    hint = _HINTS[error.kind] if isinstance(error, ModelError) else ""
    return CheckResult(name, "failure", str(error), hint, of_model=True)


@dataclass(frozen=True, slots=True)
class _ModelChecks:
    """The checks of one model, which is perceiver and reasoner of `p2r`."""

    name: str
    p2r: P2R
    context: int | None  # its context window in tokens, where it is known

    def _result(self, check: str, state: State, detail: str, hint: str = "") -> CheckResult:
        return CheckResult(f"{self.name} {check}", state, detail, hint, of_model=True)

    def placement(self) -> list[CheckResult]:
        """Where and how it is loaded; nothing for a server."""
        detail = getattr(self.p2r.perceiver, "placement", None)
        return [self._result("is loaded", "ok", detail)] if detail else []

    async def answers(self) -> CheckResult:
        """A question about a scene."""
        prediction = await self.p2r.predict(next(probe_samples()).sample().question)
        detail = (
            f"{prediction.usage.calls} calls in {prediction.seconds['total']:.2f} s; "
            f"answer: {prediction.answer or 'none'}"
        )
        if prediction.truncated:
            detail += f", cut at max_tokens.reason = {self.p2r.settings.max_tokens.reason}"
        if prediction.status != "no_answer":
            return self._result("answers", "ok", detail)
        hint = "it does not keep to the answer's form: try --prompts that it was trained with"
        return self._result("answers", "warning", detail, _THINKING if prediction.truncated else hint)

    async def boxes(self) -> CheckResult:
        """The box format that it writes."""
        samples = islice(probe_samples(), PROBES)
        try:
            replies = await asyncio.gather(*(_probe(self.p2r, sample) for sample in samples))
        except P2RError as error:
            return _failed(f"{self.name} boxes", error)
        chosen = self.p2r.settings.box_format
        found = {name: sum(reply.found[name] for reply in replies) for name in BOX_FORMATS}
        best = max(BOX_FORMATS, key=lambda name: (found[name], name == chosen))
        if 2 * found[best] < len(replies):  # half of the probes: far more than by chance
            return self._no_format(replies, found[best])
        iou = sum(reply.iou[best] for reply in replies) / len(replies)
        detail = (
            f"box format {best}: in {found[best]} of {len(replies)} probes the crop shows the object "
            f"(mean IoU {iou:.2f})"
        )
        if best == chosen:
            return self._result("boxes", "ok", detail)
        detail += f"; but {chosen} is set ({found[chosen]} of {len(replies)})"
        hint = f'--set box_format={best}, or "box_format": "{best}" in a settings file (p2r.json)'
        return self._result("boxes", "failure", detail, hint)

    def _no_format(self, replies: Sequence[ProbeReply], found: int) -> CheckResult:
        """Why no box format fits, and what to do."""
        total = len(replies)
        cut = sum(reply.cut for reply in replies)
        malformed = sum(reply.outcome == "malformed" for reply in replies)
        whole = sum(reply.outcome == "whole" for reply in replies)
        if 2 * cut >= total:
            thinking = " while it was thinking" if any(reply.thinks for reply in replies) else ""
            limit = f"max_tokens.perceive = {self.p2r.settings.max_tokens.perceive}"
            detail = f"{cut} of {total} replies were cut at {limit}{thinking}"
            return self._result("boxes", "warning", detail, f"{_THINKING}; or raise the limit")
        detail = (
            f"no box format fits: in at most {found} of {total} probes the crop shows the object "
            f"({malformed} replies without a box, {whole} for the whole image)"
        )
        hint = "it does not ground small objects, or not with these --prompts"
        if 2 * malformed >= total:
            hint = "it does not write boxes: use a model that grounds, or --prompts that it was trained with"
        return self._result("boxes", "warning", detail, hint)

    async def budgets(self) -> CheckResult:
        """The largest images with the most crops, and one token of the reply."""
        settings = self.p2r.settings
        try:
            plan = self._plan()
            overview, *images = (_gray(size) for size in (plan.overview, *plan.crops))
            crops = tuple(Crop(image, _WHOLE, (0, 0, *_LARGE), "red") for image in images)
            question = Question(overview.pixels, "What is the color of the image?", ("gray", "blue"))
            messages = reason_messages(settings.prompts, question, Evidence(overview, crops))
            counted = (await self.p2r.reasoner.complete(messages, Sampling(1))).prompt_tokens
        except P2RError as error:
            failure = self.too_large(error) or _failed(f"{self.name} budgets", error)
            if self.context is None and isinstance(error, ModelError) and error.kind == "rejected":
                hint = "if its context window is too small, set it: --set budget.context_tokens=TOKENS"
                return replace(failure, hint=hint)
            return failure
        detail, reply = f"an 8K image with {len(crops)} crops is", self._longest_reply()
        if self.context is not None and counted + reply > self.context:
            detail += f" {counted} tokens, a reply up to {reply}"
            return self._exceeds(self.context, detail)
        if 0 < counted < plan.tokens:
            detail += (
                f" sent as {plan.tokens} tokens of {settings.budget.factor}² pixels, "
                f"but the server counts {counted}: it shrinks images, or counts them in another way"
            )
            hint = (
                "raise the server's limit of pixels (vLLM: --mm-processor-kwargs), or lower "
                "budget.*_max_pixels"
            )
            return self._result("budgets", "warning", detail, hint)
        detail += (
            f" {counted} tokens, {plan.tokens} of them images; "
            f"up to {settings.max_tokens.reason} more for the answer"
        )
        return self._result("budgets", "ok", detail)

    def too_large(self, error: P2RError) -> CheckResult | None:
        """A failure if the context window explains why a request was refused."""
        if not isinstance(error, ModelError) or error.kind != "rejected" or self.context is None:
            return None
        plan, text = self._plan(), _PROMPT_TOKENS + self._longest_reply()
        if plan.tokens + text <= self.context:
            return None
        detail = (
            f"an 8K image with {len(plan.crops)} crops is {plan.tokens} tokens, prompt and reply up to {text}"
        )
        return self._exceeds(self.context, detail)

    def _exceeds(self, context: int, detail: str) -> CheckResult:
        budget = self.p2r.settings.budget
        text = _PROMPT_TOKENS + self._longest_reply()
        least = (1 + self.p2r.settings.geometry.max_crops) * -(-budget.min_pixels // budget.factor**2)
        hint = "a server with a larger context window (vLLM: --max-model-len)"
        if text + least <= context:
            hint = f"--set budget.context_tokens={context} --set budget.text_tokens={text}; or {hint}"
        else:
            hint += ", or lower max_tokens.perceive and max_tokens.reason"
        detail += f": more than the context window of {context}"
        return self._result("budgets", "failure", detail, hint)

    def _plan(self) -> PixelPlan:
        """The sizes of the images of the largest request."""
        settings = self.p2r.settings
        return plan_sizes(_LARGE, [(0, 0, *_LARGE)] * settings.geometry.max_crops, settings.budget)

    def _longest_reply(self) -> int:
        limits = self.p2r.settings.max_tokens
        longest = Sampling(max(limits.perceive, limits.reason))
        return self.p2r.settings.options.widened(longest).max_tokens


def _gray(size: tuple[int, int]) -> EncodedImage:
    return EncodedImage(np.full((size[1], size[0], 3), 128, np.uint8))


# The probes of the box format.


@dataclass(frozen=True, slots=True)
class ProbeReply:
    """A model's reply to the question where one object is."""

    outcome: PerceptionOutcome  # as read in the format that is set
    cut: bool  # at its token limit
    thinks: bool
    found: dict[BoxFormat, bool]  # whether a crop shows the object
    iou: dict[BoxFormat, float]  # the best of a box with the object


def probe_samples() -> Iterator[SceneSample]:
    """Scenes with a question about one object each, at a place that tells the box formats apart."""
    texts = set()
    for index in count():
        sample = make_sample("validation", index, seed=_PROBE_SEED, size=_PROBE_SIZE, family="read")
        x, y = sample.boxes[0].center
        if abs(x - y) > 300 and min(x, y) > 300 and sample.task.text not in texts:
            texts.add(sample.task.text)
            yield sample


async def _probe(p2r: P2R, sample: SceneSample) -> ProbeReply:
    settings = p2r.settings
    question = (await asyncio.to_thread(sample.sample)).question
    overview = (await p2r.open_images(question))[0].overview
    messages = perceive_messages(settings.prompts, question, overview, settings.box_format)
    completion = await p2r.perceiver.complete(messages, Sampling(settings.max_tokens.perceive))
    found, iou = {}, {}
    for name in BOX_FORMATS:
        boxes = parse_perception(completion.text, name, overview.size).boxes[: settings.geometry.max_crops]
        crops = [crop_region(box, sample.size, settings.geometry) for box in boxes]
        located = localize(sample.boxes, boxes, crops, sample.size)
        found[name], iou[name] = located.complete, located.iou[0]
    return ProbeReply(
        outcome=parse_perception(completion.text, settings.box_format, overview.size).outcome,
        cut=completion.finish_reason == "length",
        thinks=bool(split_thinking(completion.text).thinking),
        found=found,
        iou=iou,
    )
