"""A benchmark of plain questions, and a model whose replies follow from the question's number."""

from __future__ import annotations

import io
import json
import re
from typing import TYPE_CHECKING

import PIL.Image
from rich.console import Console

from tests.fake_model import FakeModel, said

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from p2r.models.base import Completion, Message, Sampling

QUIET = Console(file=io.StringIO(), width=200)
GOLD = [400, 400, 500, 500]
AWAY = [0, 0, 50, 50]


def write_questions(folder: Path, n: int, *, boxes: bool = True) -> Path:
    """`n` choice questions about one small image; question k is answered by the letter k modulo 4."""
    folder.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", (320, 320), "gray").save(folder / "x.png")
    rows = [
        {
            "id": f"q{k}",
            "image": "x.png",
            "question": f"What is number {k}?",
            "choices": ["red", "green", "blue", "white"],
            "answer": "ABCD"[k % 4],
            "family": "even" if k % 2 == 0 else "odd",
            **({"boxes": [GOLD]} if boxes else {}),
        }
        for k in range(n)
    ]
    path = folder / "questions.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def number_of(messages: Sequence[Message]) -> int:
    found = re.search(r"number (\d+)", said(messages))
    assert found
    return int(found[1])


def perception(k: int) -> str:
    """By k modulo 10: 0–5 the evidence, 6–7 another place, 8 the whole image, 9 nothing readable."""
    box = {6: AWAY, 7: AWAY}.get(k % 10, GOLD)
    if k % 10 == 8:
        return "[]"
    if k % 10 == 9:
        return "I see nothing."
    return json.dumps([{"bbox_2d": box, "label": "it"}])


def reply(messages: Sequence[Message]) -> str:
    """Right with two images or more and k not a multiple of 3; right on one image for k a multiple of 4.

    Question 5 modulo 10 gets no answer on one image.
    """
    k = number_of(messages)
    text = said(messages)
    if "bbox_2d" in text:
        return perception(k)
    images = sum(not isinstance(part, str) for message in messages for part in message.content)
    right = k % 3 != 0 if images > 1 else k % 4 == 0
    if images == 1 and k % 10 == 5:
        return "<think>hm</think><answer></answer>"
    letter = "ABCD"[(k + (not right)) % 4]
    return f"<think>It is {letter}.</think><answer>{letter}</answer>" if "<think>" in text else letter


def model(delay_s: float = 0.0) -> FakeModel:
    return FakeModel(reply, name="scripted", delay_s=delay_s)


class ForgetfulModel(FakeModel):
    """The same without a memory of its calls, for runs whose memory is measured."""

    async def complete(self, messages: Sequence[Message], sampling: Sampling) -> Completion:
        try:
            return await super().complete(messages, sampling)
        finally:
            self.calls.clear()
