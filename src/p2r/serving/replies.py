"""A prediction → the reply in the protocol."""

from __future__ import annotations

import asyncio
import re
import time
from typing import TYPE_CHECKING

from p2r.record import box_record
from p2r.serving.protocol import ChatCompletion, Choice, FoundBox, Images, Looked, Reply, TokenUsage

if TYPE_CHECKING:
    from p2r.serving.asked import Asked
    from p2r.serving.protocol import FinishReason
    from p2r.types import Evidence, Prediction, Question

# Which model wrote an answer, and with which vocabulary, is not known here.
_TOKEN = re.compile(r"\s*(?:\w{1,4}|[^\w\s])")


def answer_text(asked: Asked, question: Question, prediction: Prediction) -> tuple[str, FinishReason]:
    """The content of the message, and why it ends; empty where there is no answer."""
    answer = prediction.answer or ""
    if answer and question.choices and asked.model != "p2r-letter":
        answer = question.option(answer)
    content, was_cut = cut(answer, asked.request.answer_tokens)
    return content, "length" if was_cut or prediction.truncated else "stop"


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
        boxes=[FoundBox(**box_record(box)) for box in prediction.boxes],
        crops_px=[list(rect) for rect in prediction.crops_px],
        dropped=list(perception.dropped) if perception else [],
        notes=list(prediction.notes),
        ignored=list(asked.ignored),
        truncated=prediction.truncated,
        seconds={stage: round(seconds, 4) for stage, seconds in prediction.seconds.items()},
        digest=prediction.digest,
        images=await images(evidence) if evidence and asked.request.p2r.include_images else None,
    )


async def images(evidence: Evidence) -> Images:
    """What the reasoner saw."""
    return await asyncio.to_thread(
        lambda: Images(
            overview=evidence.overview.data_uri(), crops=[crop.picture.data_uri() for crop in evidence.crops]
        )
    )


def token_usage(prediction: Prediction) -> TokenUsage:
    """The tokens of both stages."""
    prompt, completion = prediction.usage.prompt_tokens, prediction.usage.completion_tokens
    return TokenUsage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


async def chat_completion(
    asked: Asked, question: Question, prediction: Prediction, evidence: Evidence | None
) -> ChatCompletion:
    """The whole reply."""
    content, finish = answer_text(asked, question, prediction)
    reply = Reply(
        content=content,
        reasoning_content=prediction.thinking,
        p2r=await looked(asked, question, prediction, evidence),
    )
    return ChatCompletion(
        id=question.id,
        created=int(time.time()),
        model=asked.model,
        choices=[Choice(message=reply, finish_reason=finish)],
        usage=token_usage(prediction),
    )
