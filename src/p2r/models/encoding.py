"""Messages → token ids and pixel values of one request, for a checkpoint of the Qwen-VL family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError, ModelError
from p2r.models.base import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from p2r.models.base import Message, Sampling
    from p2r.models.options import ModelOptions

_VISION_TOKENS = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
_THINK = "<think>"


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """One encoded request; `pixel_values` and `image_grid_thw` are None without images."""

    input_ids: torch.Tensor  # (length,)
    token_type_ids: torch.Tensor  # (length,): 0 for text, 1 for the tokens of an image
    pixel_values: torch.Tensor | None  # (patches, values): normalized patches of all images
    image_grid_thw: torch.Tensor | None  # (images, 3): patches of each image as (1, rows, columns)
    # `<think>` where the chat template has opened the thinking: it begins the reply, so that a reply that is
    # cut within it does not look like an answer.
    opening: str = ""


class PromptEncoder:
    """Encodes messages for one checkpoint.

    Args:
        processor: of the checkpoint.
        config: of the checkpoint.
        name: the model's name, for errors.
        options: their variables go to the chat template.

    Raises:
        InputError: the model takes images in another way than the Qwen-VL family.
    """

    def __init__(self, processor: Any, config: Any, name: str, options: ModelOptions | None = None) -> None:
        sizes = processor.image_processor
        if not (hasattr(sizes, "merge_size") and hasattr(sizes, "patch_size")):
            raise InputError(
                f"model {name} is a {config.model_type}: in this process only models of the Qwen-VL family "
                f"run; use vllm:{name}, or another server that runs it (docs/models.md)"
            )
        self._processor = processor
        self._variables = options.template_kwargs() if options else {}
        self._name = name
        self._image_token = int(config.image_token_id)
        # A user's text must not contain these: it could forge a turn or an image.
        self._special = [
            token.content for token in processor.tokenizer.added_tokens_decoder.values() if token.special
        ]
        self.context_tokens = int(config.get_text_config().max_position_embeddings)

    def encode(self, messages: Sequence[Message], sampling: Sampling) -> EncodedPrompt:
        """Render, tokenize and normalize one conversation.

        Raises:
            ModelError: the processor failed, or the request does not fit the model.
        """
        images = [part for message in messages for part in message.content if not isinstance(part, str)]
        sizes = self._processor.image_processor
        factor = sizes.patch_size * sizes.merge_size
        for width, height in (image.size for image in images):
            if width % factor or height % factor:
                raise self._rejected(
                    f"an image of {width}×{height} px, but this model needs sides in multiples of {factor}: "
                    f"--set budget.factor={factor}"
                )
        try:
            text = self.render(messages)
            inputs = self._processor(
                text=[text],
                images=[image.to_pil() for image in images] or None,
                do_resize=False,  # every image has its final size already
                return_tensors="pt",
            )
        except Exception as error:
            text = f"the processor failed: {one_line(f'{type(error).__name__}: {error}')}"
            raise ModelError(text, kind="internal", model=self._name) from error
        ids, grids = inputs["input_ids"][0], inputs.get("image_grid_thw")
        # Every image must have as many tokens as the vision tower will make features.
        count, patches = (0, 0) if grids is None else (len(grids), int(grids.prod(-1).sum()))
        tokens, features = int((ids == self._image_token).sum()), patches // sizes.merge_size**2
        if tokens != features or count != len(images):
            raise self._rejected(
                f"{tokens} image tokens for {features} image features of {len(images)} images: "
                "the checkpoint's chat template does not fit its processor"
            )
        if len(ids) + sampling.max_tokens > self.context_tokens:
            raise self._rejected(
                f"{len(ids)} prompt tokens and {sampling.max_tokens} new ones do not fit into the context of "
                f"{self.context_tokens}: lower the pixel budgets, max_tokens or thinking_tokens"
            )
        opening = _THINK if text.rstrip().endswith(_THINK) else ""
        return EncodedPrompt(ids, inputs["mm_token_type_ids"][0], inputs.get("pixel_values"), grids, opening)

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

    def _part(self, part: Any) -> dict[str, str]:
        if not isinstance(part, str):
            return {"type": "image"}
        for token in self._special:
            part = part.replace(token, f"{token[0]} {token[1:]}")
        return {"type": "text", "text": part}

    def _rejected(self, text: str) -> ModelError:
        return ModelError(text, kind="rejected", model=self._name)


def forbidden_tokens(config: Any) -> list[int]:
    """The tokens that a reply must not contain: they would refer to images that are not there."""
    return [token for key in _VISION_TOKENS if (token := getattr(config, key, None)) is not None]
