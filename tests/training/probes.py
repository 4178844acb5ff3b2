"""Functions for a warm process: they build the real trainer and return measurements."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from p2r.models.base import Completion, Sampling
from p2r.models.encoding import PromptEncoder
from p2r.settings import PixelBudget, Settings, TokenLimits
from p2r.training.data import prompt_tokens
from p2r.training.recipe import load_recipe
from p2r.training.run import find_start, first_phase
from p2r.training.session import Session
from p2r.types import Box
from tests.models.real_checkpoint import write_real_checkpoint
from tests.training import small_run
from tests.training.families import write_family
from tests.training.phrase_model import write_phrase_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from p2r.training.session import Components

EVIDENCE = (
    (),
    (Box(100, 100, 300, 300, "a"),),
    (Box(100, 100, 300, 300, "a"), Box(500, 500, 900, 600, "b")),
    (Box(0, 0, 50, 900, "a"), Box(500, 0, 600, 100, "b"), Box(700, 700, 1000, 1000, "c")),
)
# Of the papers of DAPO, GSPO and (for CISPO, of the ratio itself) ScaleRL.
BOUNDS = {"dapo": (0.2, 0.28), "gspo": (3e-4, 4e-4), "cispo": (0.0, 5.0)}


def make(folder: str) -> dict[str, str]:
    """The phrase model and a recipe about eight small images."""
    place = Path(folder)
    model = write_phrase_model(place / "model")
    samples = small_run.write_samples(place / "data")
    recipe = small_run.write_recipe(place / "recipe.json", small_run.recipe(model, samples))
    return {"model": str(model), "samples": str(samples), "recipe": str(recipe)}


def make_family(folder: str, family: str, samples: str) -> str:
    """The recipe of a small model of a family, about samples that are there."""
    place = Path(folder)
    model = write_family(place / family, family)
    return str(small_run.write_recipe(place / f"{family}.json", small_run.recipe(model, Path(samples))))


def make_real(folder: str) -> str:
    """A checkpoint with the real tokenizer, and settings for small images and short replies."""
    model = write_real_checkpoint(Path(folder), hidden=16)
    budget = PixelBudget(overview_max_pixels=65_536, crop_max_pixels=65_536)
    Settings(budget=budget, max_tokens=TokenLimits(perceive=4, reason=4)).save(model)
    return str(model)


def open_session(recipe: str, out: str, changes: list[str] | None = None) -> Session:
    """A session of the first phase of a new run."""
    loaded, folder = load_recipe(Path(recipe), changes or ()), Path(out)
    return Session(first_phase(loaded, folder))


def ragged(built: Components) -> None:
    """Evidence of none to three crops, for a reasoner without a perceiver."""
    built.dataset.boxes.update(
        {index: EVIDENCE[index % len(EVIDENCE)] for index in range(len(built.dataset.samples))}
    )


def take_batch(built: Components) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows of the first step, and what TRL makes of them: rollouts, rewards, advantages."""
    trainer = built.trainer
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = trainer.args.gradient_accumulation_steps
    rows = next(iter(trainer.get_train_dataloader()))
    return rows, trainer._prepare_inputs(rows)


def trl_prompts(built: Components) -> tuple[Any, Any, Any]:
    """Token ids, images and image features of the first step's prompts, as TRL makes them."""
    rows = next(iter(built.trainer.get_train_dataloader()))
    found: tuple[Any, Any, Any] = built.trainer._tokenize_prompts(
        [_with_images(row["prompt"], row["images"]) for row in rows]
    )
    return found


def plain_log_probs(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """Log-probabilities of the completions by transformers alone, (rows, tokens)."""
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1)
    shown = {key: inputs[key] for key in ("pixel_values", "image_grid_thw", "mm_token_type_ids")}
    logits = model(input_ids=ids, attention_mask=mask, **shown).logits
    length = inputs["completion_ids"].shape[1]
    log_probs = logits[:, -length - 1 : -1].log_softmax(-1)
    return log_probs.gather(-1, inputs["completion_ids"][..., None])[..., 0]


def loss_by_hand(recipe: str, out: str, changes: list[str]) -> dict[str, Any]:
    """Advantages and loss of a batch as TRL has them, and as the formulas of the papers give them."""
    session = open_session(recipe, out, changes)
    built = session.build()
    trainer, phase = built.trainer, session.phase
    _, inputs = take_batch(built)
    logs = trainer._logs
    with torch.no_grad():
        old = plain_log_probs(trainer.model, inputs)
        reference = plain_log_probs(trainer.ref_model, inputs)
        for parameter in trainer.model.parameters():  # a policy that has moved, so that ratios are not 1
            parameter.add_(0.02 * torch.randn_like(parameter))
        now = plain_log_probs(trainer.model, inputs)
    inputs["old_per_token_logps"] = old
    loss = trainer.compute_loss(trainer.model, inputs)
    mask, advantages = inputs["completion_mask"], inputs["advantages"][:, None]
    ratio = (now - old).exp()
    lengths = mask.sum(1, keepdim=True)
    if phase.loss == "gspo":  # one ratio for a whole completion: the geometric mean of its tokens'
        ratio = (((now - old) * mask).sum(1, keepdim=True) / lengths).exp().expand_as(now)
    low, high = (0.2, 0.2)
    if phase.loss in BOUNDS:
        low, high = BOUNDS[phase.loss]
    clipped = ratio.clamp(1 - low, 1 + high)
    surrogate = torch.minimum(ratio * advantages, clipped * advantages)
    if phase.loss == "cispo":
        clipped = ratio.clamp(max=high)
        surrogate = clipped * advantages * now
    kl = (reference - now).exp() - (reference - now) - 1
    tokens = (phase.kl * kl - surrogate) * mask
    by_hand = tokens.sum() / mask.sum()
    if phase.loss in ("grpo", "gspo"):
        by_hand = (tokens.sum(1, keepdim=True) / lengths).mean()
    elif phase.loss == "dr_grpo":
        by_hand = tokens.sum() / (len(tokens) * trainer.args.max_completion_length)
    stops = [
        row.tolist().index(258) if 258 in row.tolist() else len(row) - 1 for row in inputs["completion_ids"]
    ]
    return {
        "rewards": list(logs["rewards"]["answer"]),
        "advantages": list(logs["advantages"]),
        "group": phase.group,
        "scaled": phase.loss != "dr_grpo",
        "loss": float(loss),
        "by_hand": float(by_hand),
        "clipped": float(((ratio != clipped) * mask).sum()),
        "kl": float((kl * mask).sum() / mask.sum()),
        "mask_is_the_completion": inputs["completion_mask"].sum(1).tolist() == [stop + 1 for stop in stops],
    }


def log_probs(recipe: str, out: str) -> dict[str, Any]:
    """The same completions by the sampler, token by token with its cache, and by the trainer, all at once."""
    built = open_session(
        recipe, out, ["phases=[{role: reasoner}]", "training.prompts=8", "training.micro_batch=32"]
    ).build()
    ragged(built)
    trainer = built.trainer
    _, inputs = take_batch(built)
    model = trainer.model.eval()
    prompt = inputs["prompt_ids"].shape[1]
    with torch.no_grad():
        sampled = model.generate(
            input_ids=inputs["prompt_ids"],
            attention_mask=inputs["prompt_mask"],
            pixel_values=inputs["pixel_values"],
            image_grid_thw=inputs["image_grid_thw"],
            mm_token_type_ids=inputs["mm_token_type_ids"][:, :prompt],
            do_sample=True,
            max_new_tokens=6,
            eos_token_id=None,
            output_logits=True,
            return_dict_in_generate=True,
        )
        completion = sampled.sequences[:, prompt:]
        said = torch.stack(sampled.logits, 1).log_softmax(-1).gather(-1, completion[..., None])[..., 0]
        ids = torch.cat([inputs["prompt_ids"], completion], 1)
        kinds = inputs["mm_token_type_ids"][:, :prompt]
        trained, _, _ = trainer._get_per_token_logps_and_entropies(
            model,
            ids,
            torch.cat([inputs["prompt_mask"], torch.ones_like(completion)], 1),
            completion.shape[1],
            pixel_values=inputs["pixel_values"],
            image_grid_thw=inputs["image_grid_thw"],
            num_images=inputs["num_images"],
            mm_token_type_ids=torch.cat([kinds, torch.zeros_like(completion)], 1),
        )
    return {
        "difference": float((said - trained).abs().max()),
        "spread": float(said.std()),
        "images": sorted(set(inputs["num_images"])),
        "padding": sorted({int(row.sum()) for row in inputs["prompt_mask"]}),
        "sizes": len({tuple(grid) for grid in inputs["image_grid_thw"].tolist()}),
    }


def rows_of(recipe: str, out: str, role: str, changes: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Each row of a step: images, their features and tokens, and the prompt of every entry point."""
    step = [f"phases=[{{role: {role}}}]", "training.prompts=8", "training.micro_batch=32"]
    session = open_session(recipe, out, [*step, *changes])
    built = session.build()
    ragged(built)
    rows = next(iter(built.trainer.get_train_dataloader()))
    prompts, _, fields = trl_prompts(built)
    encoder = PromptEncoder(built.processor, built.trainer.model.config, "x", session.settings.options)
    grids = fields["image_grid_thw"].tolist()
    token = built.trainer.model.config.image_token_id
    found, patches = [], 0
    for row, ids in zip(rows, prompts, strict=True):
        mine, grids = grids[: len(row["images"])], grids[len(row["images"]) :]
        size = sum(t * h * w for t, h, w in mine)
        other = encoder.encode(built.dataset.messages(row["role"], row["index"]), Sampling(8))
        pixels = fields["pixel_values"][patches : patches + size]
        patches += size
        found.append(
            {
                "index": row["index"],
                "images": len(row["images"]),
                "features": size // 4,
                "tokens": list(ids).count(token),
                "length": len(ids),
                "counted": prompt_tokens(
                    built.dataset.samples[row["index"]],
                    row["role"],
                    session.settings,
                    encoder,
                    built.processor,
                ),
                "same_ids": list(ids) == other.input_ids.tolist(),
                "end": built.processor.tokenizer.decode(ids[-30:]),
                "same_pixels": bool(
                    other.pixel_values is not None and torch.equal(pixels, other.pixel_values)
                ),
            }
        )
    return found


def frozen_tokens(recipe: str, out: str, changes: list[str]) -> dict[str, int]:
    """How long a prompt and a reply of the frozen role in the process are."""
    built = open_session(recipe, out, ["phases=[{role: perceiver}]", *changes]).build()
    assert built.frozen
    (reply,) = asyncio.run(built.frozen.complete_all([built.dataset.messages("perceiver", 0)], Sampling(2)))
    assert isinstance(reply, Completion)
    return {"prompt": reply.prompt_tokens, "reply": reply.completion_tokens}


def thinking_model(model: str, folder: str) -> str:
    """A copy of a model whose template closes the thinking when thinking is off."""
    place = Path(shutil.copytree(model, folder))
    template = place / "chat_template.jinja"
    switch = (
        "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}{% endif %}"
    )
    text = template.read_text()
    assert text.endswith("{% endif %}")
    template.write_text(text.removesuffix("{% endif %}") + switch)
    return str(place)


def _with_images(prompt: list[dict[str, Any]], images: list[Any]) -> list[dict[str, Any]]:
    from trl.data_utils import prepare_multimodal_messages

    return prepare_multimodal_messages(prompt, images=images)


def configured(recipe: str, changes: list[str]) -> dict[str, Any]:
    """Of TRL's configuration of the first phase; parameters as literals: keys of JSON are texts."""
    from p2r.training.data import settings_of
    from p2r.training.preflight.construction import sampling_parameters
    from p2r.training.trl import configure

    loaded = load_recipe(Path(recipe), changes)
    start = find_start(loaded.model)
    found = configure(loaded, loaded.phases[0], settings_of(loaded), start, output=Path("out"), seed=0)
    names = ("use_vllm", "vllm_max_model_length", "max_completion_length", "chat_template_kwargs")
    return {name: getattr(found, name) for name in names} | {
        "generation": repr(found.generation_kwargs),
        "sampling": repr(sampling_parameters(found)),
    }


def short_prompts(prompts: list[list[int]], read: list[list[int]]) -> list[list[int]]:
    """What an engine gets instead of `prompts`, and answers having read `read`; 7 is the image token."""
    from types import SimpleNamespace

    from p2r.training.trl import adapt_engine

    seen: list[list[int]] = []

    def generate(ids: list[list[int]], images: None) -> tuple[Any, ...]:
        assert images is None
        seen.extend(ids)
        return read, [], [], []

    core = SimpleNamespace(reset_encoder_cache=lambda: seen.clear())
    engine = SimpleNamespace(generate=generate, llm=SimpleNamespace(llm_engine=core))
    trainer = SimpleNamespace(vllm_generation=engine, processing_class=SimpleNamespace(image_token_id=7))
    adapt_engine(trainer)
    assert engine.generate(prompts, images=None) == (read, [], [], [])
    return seen


def file_hash(path: str) -> str:
    """Of a file's bytes."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def check(recipe: str, changes: Sequence[str] = (), groups: int = 2) -> list[dict[str, Any]]:
    """Results of all checks of a recipe."""
    from p2r.training.preflight.checks import run_checks

    found = run_checks(load_recipe(Path(recipe), changes), None, groups=groups, tell=_silent)
    return [asdict(result) for result in found]


def check_calls(recipe: str) -> list[dict[str, Any]]:
    """Results of the checks that call models."""
    from p2r.training.data import load_data, settings_of
    from p2r.training.preflight.dry_run import check_calls

    run = load_recipe(Path(recipe))
    samples, _ = load_data(run, Path(run.data.samples or ""))
    found = check_calls(run, run.phases, samples, settings_of(run), Path(run.model), groups=2, tell=_silent)
    return [asdict(result) for result in found]


def check_step(recipe: str, folder: str) -> dict[str, Any]:
    """The result of one step of the first phase."""
    from p2r.training.preflight.dry_run import check_step

    run = load_recipe(Path(recipe))
    return asdict(check_step(run, run.phases[0], Path(run.data.samples or ""), Path(folder)))


def check_by_command(recipe: str, out: str) -> tuple[int, str]:
    """Exit code and output of `p2r train --check --json`."""
    from typer.testing import CliRunner

    from p2r.cli import app

    done = CliRunner().invoke(app, ["train", recipe, "--check", "--out", out, "--json"])
    return done.exit_code, done.stdout


def _silent(_text: str) -> None:
    pass
