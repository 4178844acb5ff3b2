"""Questions about one known object each, and the right replies in the box formats of real families."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

from p2r.model_checks import PROBES, probe_samples

if TYPE_CHECKING:
    from p2r.types import Box, BoxFormat

# A box, and width and height of the image as it was sent → the reply.
Writer = Callable[["Box", int, int], str]

SAMPLES = {sample.task.text: sample for sample in islice(probe_samples(), PROBES)}


def qwen3(box: Box, width: int, height: int) -> str:
    return f'[{{"bbox_2d": [{box.x0:.0f}, {box.y0:.0f}, {box.x1:.0f}, {box.y1:.0f}], "label": "tag"}}]'


def pixels(box: Box, width: int, height: int) -> str:
    corners = (box.x0 * width, box.y0 * height, box.x1 * width, box.y1 * height)
    return json.dumps([{"bbox_2d": [round(value / 1000) for value in corners], "label": "tag"}])


def gemini(box: Box, width: int, height: int) -> str:
    return json.dumps([{"box_2d": [round(v) for v in (box.y0, box.x0, box.y1, box.x1)], "label": "tag"}])


def unit(box: Box, width: int, height: int) -> str:
    return f"<ref>tag</ref><box>({box.x0 / 1000},{box.y0 / 1000}),({box.x1 / 1000},{box.y1 / 1000})</box>"


WRITERS: dict[BoxFormat, Writer] = {"qwen3": qwen3, "pixels": pixels, "gemini": gemini, "unit": unit}


def right_reply(text: str, write: Writer, size: tuple[int, int]) -> str:
    """The right reply to a prompt: the object's place to a perceiver's, else the answer.

    Args:
        text: of the prompt.
        write: how the model writes boxes, whatever the prompt says.
        size: of the first image, as it was sent.
    """
    samples = [sample for question, sample in SAMPLES.items() if question in text]
    if "list of boxes" in text:
        return write(samples[0].boxes[0], *size)
    answer = samples[0].task.answer if samples else "A"  # doctor asks about a gray image as well
    return f"<think>I read it.</think><answer>{answer}</answer>"
