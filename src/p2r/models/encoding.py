"""Messages → the tensors of one request, for a checkpoint of the Qwen-VL family.

The local engine prepares its requests with this, and training prepares those of the frozen role.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from p2r.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from p2r.models.base import Message, Sampling
    from p2r.models.options import ModelOptions

# Sampled, such a token would stand for an image that is not there.
_VISION_TOKENS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")

_THINK = "<think>"


@dataclass(slots=True)
class Prompt:
    """One prepared request.

    Attributes:
        ids: token ids, shape (length,).
        kinds: 0 for text and 1 for an image's tokens, shape (length,).
        patches: normalized pixels of all images, shape (patches, values); None without images.
        grids: patches of each image as (1, rows, columns), shape (images, 3).
        opening: `<think>` where the chat template has opened the thinking, so that a reply that is cut in the
            middle of it can be told from an answer; else empty.
        on_text: takes the text as it is written; None when nobody listens.
        sent: how many characters it was given.
    """

    ids: torch.Tensor
    kinds: torch.Tensor
    patches: torch.Tensor | None
    grids: torch.Tensor | None
    opening: str = ""
    on_text: Callable[[str], None] | None = None
    sent: int = 0


class Preparer:
    """Turns messages into prompts of one checkpoint.

    Args:
        processor: of the checkpoint.
        config: of the checkpoint.
        name: the model's name, for errors.
        options: their variables go to the chat template.
    """

    def __init__(self, processor: Any, config: Any, name: str, options: ModelOptions | None = None) -> None:
        self._processor = processor
        self._variables = options.template_kwargs() if options else {}
        self._name = name
        self.context_tokens = int(config.get_text_config().max_position_embeddings)
        self._image_token = int(config.image_token_id)
        # Controls that a user's text must not contain: it could forge a turn or an image.
        self._controls = [
            token.content for token in processor.tokenizer.added_tokens_decoder.values() if token.special
        ]

    def prepare(self, messages: Sequence[Message], sampling: Sampling) -> Prompt:
        """Render, tokenize and normalize one conversation.

        Raises:
            ModelError: the processor failed, or the request does not fit the model.
        """
        images = [part for message in messages for part in message.content if not isinstance(part, str)]
        self._check_sizes(images)
        try:
            text = self.render(messages)
            inputs = self._processor(
                text=[text],
                images=[image.to_pil() for image in images] or None,
                do_resize=False,  # every image has its final size already
                return_tensors="pt",
            )
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise ModelError(f"the processor failed: {text}", kind="internal", model=self._name) from error
        ids = inputs["input_ids"][0]
        grids = inputs.get("image_grid_thw")
        self._check_features(ids, grids, len(images))
        if len(ids) + sampling.max_tokens > self.context_tokens:
            raise self._rejected(
                f"{len(ids)} prompt tokens and {sampling.max_tokens} new ones do not fit into the context of "
                f"{self.context_tokens}: lower the pixel budgets, max_tokens or thinking_tokens"
            )
        opening = _THINK if text.rstrip().endswith(_THINK) else ""
        return Prompt(ids, inputs["mm_token_type_ids"][0], inputs.get("pixel_values"), grids, opening)

    def render(self, messages: Sequence[Message]) -> str:
        """The text of a prompt, up to where the reply begins."""
        text: str = self._processor.apply_chat_template(
            self.conversation(messages), add_generation_prompt=True, tokenize=False, **self._variables
        )
        return text

    def conversation(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Messages as chat templates take them; images are placeholders, in order."""
        return [
            {"role": message.role, "content": [self._part(part) for part in message.content]}
            for message in messages
        ]

    def _check_sizes(self, images: Sequence[Any]) -> None:
        factor = self._processor.image_processor.patch_size * self._processor.image_processor.merge_size
        for width, height in (image.size for image in images):
            if width % factor or height % factor:
                raise self._rejected(
                    f"an image of {width}×{height} px, but this model needs sides in multiples of {factor}: "
                    "set budget.factor"
                )

    def _part(self, part: Any) -> dict[str, str]:
        if not isinstance(part, str):
            return {"type": "image"}
        for token in self._controls:
            part = part.replace(token, f"{token[0]} {token[1:]}")
        return {"type": "text", "text": part}

    def _check_features(self, ids: torch.Tensor, grids: torch.Tensor | None, images: int) -> None:
        """Every image must be there with as many tokens as the vision tower will make features."""
        merged = self._processor.image_processor.merge_size**2
        features = 0 if grids is None else int(grids.prod(-1).sum()) // merged
        tokens = int((ids == self._image_token).sum())
        if tokens != features or images != (0 if grids is None else len(grids)):
            raise self._rejected(
                f"{tokens} image tokens for {features} image features of {images} images: "
                "the checkpoint's chat template does not fit its processor"
            )

    def _rejected(self, text: str) -> ModelError:
        return ModelError(text, kind="rejected", model=self._name)


def forbidden_tokens(config: Any) -> list[int]:
    """The tokens that no reply may hold: they would stand for images that are not there."""
    return [token for key in _VISION_TOKENS if (token := getattr(config, key, None)) is not None]


def stop_tokens(model: Any) -> list[int]:
    """The tokens that end a reply."""
    ids = model.generation_config.eos_token_id
    return [ids] if isinstance(ids, int) else list(ids or ())
