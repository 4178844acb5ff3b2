"""Very small checkpoints of real architectures that write what they are taught, and nothing else.

Random weights write no boxes. Here the head is computed so that given prompts get given replies: the hidden
states before each token of a reply are run through the real model, and the head is the least-squares solution
that maps each of them to its token. So a reply depends on the whole path: the chat template with its
variables, the tokens, and the pixels of every image. A prompt that differs from the taught one in any of
them gets another text.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import trl

from p2r.models.base import Sampling
from p2r.models.checkpoint import load_checkpoint
from p2r.models.encoding import PromptEncoder
from tests.training.families import write_family

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.models.base import Message
    from p2r.models.options import ModelOptions
    from p2r.settings import Settings

# A prompt, the options that it is rendered with, and the reply in pieces.
Lesson = tuple["Sequence[Message]", "ModelOptions", "Sequence[str]"]


def real_template(name: str) -> str:
    """The chat template of a released checkpoint, from TRL's collection."""
    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def teach(folder: Path, family: str, template: str, lessons: Sequence[Lesson], settings: Settings) -> Path:
    """Write a checkpoint of a family that gives each prompt of the lessons its reply; returns its folder.

    Args:
        folder: is made.
        family: a key of `FAMILIES`.
        template: a chat template.
        lessons: of one model; a prompt may come with different options and replies. Their pieces become
            tokens: at most the hidden size of the model in all replies together.
        settings: are written beside it.
    """
    write_family(folder, family, list(dict.fromkeys(piece for _, _, reply in lessons for piece in reply)))
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    settings.save(folder)
    teach_head(folder, lessons)
    return folder


def teach_head(folder: Path, lessons: Sequence[Lesson], *, end: str = "<|im_end|>") -> None:
    """Compute the head of a checkpoint whose head is its own, and write it.

    Args:
        folder: of the checkpoint.
        lessons: as in `teach`; the replies are tokenized as they are.
        end: the token after each reply.
    """
    loaded = load_checkpoint(folder, device="cpu", dtype="float32")
    tokenizer, model = loaded.processor.tokenizer, loaded.model
    states, tokens = [], []
    for messages, options, reply in lessons:
        said = tokenizer.encode("".join(reply) + end, add_special_tokens=False)
        encoder = PromptEncoder(loaded.processor, model.config, "taught", options)
        states.append(_states(model, encoder.encode(messages, Sampling(len(said))), said))
        tokens += said
    different = sorted(set(tokens))
    wanted = torch.zeros(len(tokens), len(different), dtype=torch.double)
    wanted[range(len(tokens)), [different.index(token) for token in tokens]] = 30.0
    head = torch.linalg.lstsq(torch.cat(states).double(), wanted, driver="gelsd").solution.T
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[different] = head.float()
    model.save_pretrained(folder)


def _states(model: Any, prompt: Any, said: list[int]) -> torch.Tensor:
    """The hidden states that the head reads before each token of a reply, (tokens, hidden)."""
    new = torch.tensor(said[:-1], dtype=torch.long)
    ids = torch.cat([prompt.input_ids, new])[None]
    kinds = torch.cat([prompt.token_type_ids, torch.zeros_like(new)])[None]
    with torch.no_grad():
        output = model.model(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=kinds,
            pixel_values=prompt.pixel_values,
            image_grid_thw=prompt.image_grid_thw,
            use_cache=False,
        )
    return output.last_hidden_state[0, len(prompt.input_ids) - 1 :]
