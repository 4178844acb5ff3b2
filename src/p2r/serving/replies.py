"""A prediction → what both endpoints send: the text of the answer, what happened, the tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from p2r.images.threads import in_image_thread
from p2r.serving.schema import FoundBox, Images, Looked, TokenUsage
from p2r.serving.structured import Unfit

if TYPE_CHECKING:
    from p2r.serving.request import Asked
    from p2r.types import Evidence, Prediction, Question

# Which model wrote an answer, and with which vocabulary, is not known here.
_TOKEN = re.compile(r"\s*(?:\w{1,4}|[^\w\s])")


@dataclass(frozen=True, slots=True)
class AnswerText:
    """The answer as it is sent.

    Attributes:
        text: plain, or JSON where that was asked for; empty where there is no answer.
        refusal: why there is no answer in the form that was asked for; empty where there is one, or no form.
        was_cut: it, or what the model wrote, was longer than allowed.
    """

    text: str
    refusal: str = ""
    was_cut: bool = False


def answer_text(asked: Asked, question: Question, prediction: Prediction) -> AnswerText:
    """The answer of a prediction, as it is sent."""
    answer = prediction.answer
    text = answer or ""
    if answer and question.choices:
        if asked.letter_format:
            text = asked.letter_format.replace("$LETTER", answer)
        elif asked.model != "p2r-letter":
            text = question.option(answer)
    if asked.form:
        try:
            text = asked.form.write(answer, text, prediction.thinking)
        except Unfit as unfit:
            why = prediction.notes[-1] if answer is None and prediction.notes else str(unfit)
            return AnswerText(
                "", f"There is no answer in the form that was asked for: {why}", prediction.truncated
            )
    ends = [text.index(stop) for stop in asked.stop if stop in text]
    text, was_cut = cut(text[: min(ends, default=len(text))], asked.max_tokens)
    return AnswerText(text, was_cut=was_cut or prediction.truncated)


def cut(text: str, max_tokens: int | None) -> tuple[str, bool]:
    """The first tokens of a text, and whether there were more.

    A token is counted as up to four letters or digits of a word, or one other sign.
    """
    if max_tokens is None:
        return text, False
    for count, token in enumerate(_TOKEN.finditer(text)):
        if count == max_tokens:
            return text[: token.start()], True
    return text, False


async def looked(
    asked: Asked, question: Question, prediction: Prediction, evidence: Evidence | None
) -> Looked:
    """What is sent beside the answer."""
    perception = prediction.perception
    return Looked(
        mode=prediction.mode,
        status="no_answer" if prediction.answer is None else "answered",
        answer=prediction.answer,
        choices=list(question.choices),
        outcome=perception.outcome if perception else None,
        boxes=[FoundBox(**box.to_json()) for box in prediction.boxes],
        crops_px=[list(rect) for rect in prediction.crops_px],
        dropped=list(perception.warnings) if perception else [],
        notes=list(prediction.notes),
        ignored=list(asked.ignored),
        truncated=prediction.truncated,
        seconds={stage: round(seconds, 4) for stage, seconds in prediction.seconds.items()},
        digest=prediction.digest,
        images=await images(evidence) if evidence and asked.options.include_images else None,
        result=asked.upload.keep(question, prediction, asked.model) if asked.upload else None,
    )


async def images(evidence: Evidence) -> Images:
    """What the reasoner saw."""
    return await in_image_thread(
        lambda: Images(
            overview=evidence.overview.data_uri(), crops=[crop.image.data_uri() for crop in evidence.crops]
        )
    )


def token_usage(prediction: Prediction) -> TokenUsage:
    """The tokens of both stages."""
    prompt, completion = prediction.usage.prompt_tokens, prediction.usage.completion_tokens
    return TokenUsage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answered question: all that a reply is made of."""

    id: str
    asked: Asked
    answer: AnswerText
    thinking: str
    looked: Looked
    usage: TokenUsage


async def outcome_of(
    asked: Asked, question: Question, prediction: Prediction, evidence: Evidence | None
) -> Outcome:
    """What came of a question."""
    return Outcome(
        question.id,
        asked,
        answer_text(asked, question, prediction),
        prediction.thinking,
        await looked(asked, question, prediction, evidence),
        token_usage(prediction),
    )
