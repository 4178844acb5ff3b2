"""The questions of `p2r eval` as a task of inspect_ai, for any model, with p2r's own scores.

    uv pip install inspect-ai '.[local]' ./integrations
    inspect eval integrations/p2r_inspect.py@questions -T data=$PWD/my.jsonl --model p2r/nano
    inspect eval integrations/p2r_inspect.py@questions -T benchmark=scenes -T count=20 --model openai/gpt-5

`benchmark` is one of `p2r eval` (default jsonl), `data` its file, folder or hub id (a whole path: inspect_ai
changes into the folder of this file), `count` and `size` are those of generated scenes, `judge` is a model
for free-form answers (a spec of p2r). An answer that cannot be scored is unscored.

Tried with inspect_ai 0.3.285 on 2026-11-27: the accuracy of `p2r eval` (docs/clients.md).
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset
from inspect_ai.dataset import Sample as InspectSample
from inspect_ai.model import ChatMessageUser, ContentImage, ContentText
from inspect_ai.scorer import CORRECT, INCORRECT, Score, accuracy, grouped, scorer, stderr
from inspect_ai.solver import generate, system_message
from p2r_inspect_model import P2RModel

from p2r import Judge, Question, Sample, open_model, read_answer, score
from p2r.evaluation.benchmarks import open_benchmark
from p2r.prompts import render_choices

if TYPE_CHECKING:
    from inspect_ai.scorer import Scorer, Target
    from inspect_ai.solver import TaskState

__all__ = ["P2RModel", "p2r_score", "questions"]  # inspect_ai imports this module to find them

FORM = "Look closely at the image. End with <answer>…</answer>: the letter of the option, or the answer."


@task
def questions(
    data: str | None = None,
    benchmark: str = "jsonl",
    count: int = 500,
    size: str = "4k",
    judge: str | None = None,
) -> Task:
    """The questions of a benchmark of `p2r eval`, scored as it scores them."""
    opened = open_benchmark(benchmark, data, count=count, size=size)
    samples = [_sample(load()) for load in opened.loaders()]
    solver = [system_message(FORM), generate()]
    return Task(dataset=MemoryDataset(samples, name=benchmark), solver=solver, scorer=p2r_score(judge))


def _sample(sample: Sample) -> InspectSample:
    asked = sample.question
    images = [ContentImage(image=_address(image)) for image in asked.images]
    text = ContentText(text=asked.text + render_choices(asked))
    facts = {"text": asked.text, "choices": list(asked.choices), "answer_type": asked.answer_type}
    return InspectSample(
        id=asked.id,
        input=[ChatMessageUser(content=[*images, text], metadata={"answer_type": asked.answer_type})],
        target=[sample.answer, *sample.aliases],
        metadata={**facts, "category": sample.category or "all questions"},
    )


def _address(image: Any) -> str:
    if not isinstance(image, bytes):
        return str(image)
    kind = "png" if image.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


@scorer(metrics=[grouped(accuracy(), "category", all=False), accuracy(), stderr()])
def p2r_score(judge: str | None = None) -> Scorer:
    """The score of `p2r eval`: by letter, by number, by text, or by a judge."""
    judging = Judge(open_model(judge)) if judge else None

    async def scored(state: TaskState, target: Target) -> Score:
        facts = state.metadata
        question = Question(b"", facts["text"], tuple(facts["choices"]), facts["answer_type"])
        answer = read_answer(state.output.completion, question, bare=True)
        found = await score(answer, Sample(question, target[0], aliases=tuple(target[1:])), judging)
        if found.correct is None:
            return Score.unscored(reason=found.reason, answer=answer.value)
        value = CORRECT if found.correct else INCORRECT
        return Score(value=value, answer=answer.value, explanation=found.reason)

    return scored
