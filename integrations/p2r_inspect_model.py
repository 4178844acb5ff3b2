"""P2R as a model of inspect_ai, in its process: `p2r/nano`, `p2r/hongxingli/P2R-4B`, `p2r/./checkpoint`.

    uv pip install inspect-ai '.[local]' ./integrations
    inspect eval task.py --model p2r/hongxingli/P2R-4B -M mode=p2r -M concurrency=16

It answers any task with images. What follows `p2r/` is a spec (docs/models.md); an `-M` other than these two
is an option of the model. System prompts are not shown to it, but the form of the letter is read in them
(`ANSWER: $LETTER`, answer tags). A call that fails is an error of the sample. Thinking and boxes are in the
log.

Tried with inspect_ai 0.3.285 on 2026-11-27: the accuracy of `p2r eval` (docs/clients.md).
"""

from __future__ import annotations

from typing import Any

from inspect_ai.model import (
    ChatMessage,
    ContentImage,
    ContentReasoning,
    ContentText,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    modelapi,
)

from p2r import P2R, InputError, Question
from p2r.parsing.options import reply_format, split_options


@modelapi("p2r")
class P2RModel(ModelAPI):
    """One `P2R`. The question is the last message of the user that has an image."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),
        mode: Any = "p2r",
        concurrency: int = 8,
        **options: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        self.mode, self.concurrency = mode, concurrency
        spec = ",".join([model_name, *(f"{name}={value}" for name, value in options.items())])
        self.p2r = P2R(spec, concurrency=concurrency)

    def max_connections(self) -> int:
        """How many questions inspect_ai has in flight, unless `--max-connections` says otherwise."""
        return self.concurrency

    async def generate(self, input: list[ChatMessage], **_: object) -> ModelOutput:  # noqa: A002
        """Answer the question of the messages."""
        with_images = [turn for turn in input if turn.role == "user" and _images(turn)]
        if not with_images:
            raise InputError("p2r needs a message of the user with an image")
        asked = with_images[-1]
        body, choices = split_options(asked.text)
        kind = "choice" if choices else (asked.metadata or {}).get("answer_type", "free")
        prediction = await self.p2r.predict(
            Question(_images(asked), body or asked.text, choices, kind), self.mode
        )
        form = reply_format("\n".join(turn.text for turn in input)) if choices else ""
        text = (form or "$LETTER").replace("$LETTER", prediction.answer) if prediction.answer else ""
        thinking = [ContentReasoning(reasoning=prediction.thinking)] if prediction.thinking else []
        output = ModelOutput.from_content(prediction.model, [*thinking, ContentText(text=text)])
        used = prediction.usage
        output.usage = ModelUsage(input_tokens=used.prompt_tokens, output_tokens=used.completion_tokens)
        output.metadata = {"boxes": [box.to_json() for box in prediction.boxes], "status": prediction.status}
        return output

    async def aclose(self) -> None:
        """Close the model."""
        await self.p2r.aclose()


def _images(turn: ChatMessage) -> list[str]:
    parts = [] if isinstance(turn.content, str) else turn.content
    return [part.image for part in parts if isinstance(part, ContentImage)]
