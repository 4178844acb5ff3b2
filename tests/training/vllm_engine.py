"""Runs in a Python that has vLLM and TRL: batches of TRL with rollouts by a real engine.

`python vllm_engine.py RECIPE FOLDER PRECISION` has the engine in this process, `… URL` uses a server. Each
prints one line of JSON. With the plugin of `test_vllm_rollouts.py` the engine is given new weights too.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from trl.generation.vllm_client import VLLMClient
from trl.generation.vllm_generation import VLLMGeneration
from trl.trainer.utils import ensure_master_addr_port
from vllm import LLM, _custom_ops

sys.path.insert(0, str(Path(__file__).parents[2]))

from p2r.training.trl import adapt_engine, configure
from tests.training.probes import open_session, ragged, take_batch, trl_prompts

if TYPE_CHECKING:
    from p2r.training.session import Components

ROWS = 4  # completions of each of the eight prompts
HOT = 2.0  # the most that vLLM takes: tokens of little probability are sampled too


class InProcess(VLLMGeneration):
    """TRL's, in the precision of the recipe: TRL leaves it to vLLM, which turns float32 into bfloat16."""

    precision = ""

    def _init_vllm(self) -> None:
        self.llm = LLM(
            model=self.model.name_or_path,
            dtype=self.precision,
            max_model_len=self.max_model_length,
            enforce_eager=True,
            distributed_executor_backend="external_launcher",
            seed=0,
            max_num_batched_tokens=4096,
            logprobs_mode="processed_logprobs",
        )


class OnServer(VLLMGeneration):
    """TRL's, without its group of processes for new weights."""

    def _init_vllm(self) -> None:
        self.vllm_client = VLLMClient(self.server_base_url, connection_timeout=600)


def build(recipe: str, out: str, where: str) -> Components:
    """A trainer of the reasoner that generates with vLLM; its prompts have one to four images."""
    server = where.startswith("http:")
    precision = "float32" if server else where
    rollouts = f"{{engine: vllm-server, url: '{where}'}}" if server else "{engine: vllm-colocate}"
    changes = [
        *("phases=[{role: reasoner}]", "training.prompts=8", f"training.group={ROWS}"),
        *("training.micro_batch=32", f"precision={precision}", f"rollouts={rollouts}"),
    ]
    session = open_session(recipe, out, changes)
    config = configure(
        session.recipe, session.phase, session.settings, Path(session.state.start), output=Path(out), seed=0
    )
    session.recipe = session.recipe.model_copy(update={"rollouts": type(session.recipe.rollouts)()})
    built = session.build()
    ragged(built)
    trainer = built.trainer
    InProcess.precision = precision
    trainer.vllm_generation = (OnServer if server else InProcess)(
        trainer.model,
        trainer.accelerator,
        trainer.processing_class,
        mode="server" if server else "colocate",
        server_base_url=where,
        max_model_length=1024,
        top_k=config.top_k,
        max_completion_length=config.max_completion_length,
        generation_kwargs=config.generation_kwargs,
    )
    if not server:
        adapt_engine(trainer)
    trainer.use_vllm, trainer.vllm_mode = True, config.vllm_mode
    return built


def step(built: Components, *, sync: bool) -> dict[str, Any]:
    """One batch of TRL's: log-probabilities of the sampled tokens by engine and trainer."""
    trainer = built.trainer
    # TRL's own mark of whether the engine has the weights of this step.
    trainer._last_loaded_step = -1 if sync else trainer.state.global_step
    _, inputs = take_batch(built)
    mask = inputs["completion_mask"].bool()
    said, trained = inputs["sampling_per_token_logps"][mask], inputs["old_per_token_logps"][mask]
    lead = inputs["ref_per_token_logps"][mask] - trained
    return {
        "mean": float((said - trained).abs().mean()),
        "max": float((said - trained).abs().max()),
        "tokens": len(said),
        "spread": float(trained.std()),
        "kl": float((lead.exp() - lead - 1).mean()),
        "images": sorted(set(inputs["num_images"])),
        "lengths": len({int(row.sum()) for row in inputs["prompt_mask"]}),
        "rewards": sorted(set(list(trainer._logs["rewards"]["answer"])[-8 * ROWS :])),
        "ratio": float(inputs["importance_sampling_ratio"].mean()),
    }


def sampled(built: Components, *, forbid: bool) -> dict[str, int]:
    """How many forbidden tokens are sampled at a high temperature; the last prompts have no image."""
    trainer = built.trainer
    engine = trainer.vllm_generation
    bias = engine.generation_kwargs["logit_bias"]
    prompts, images, _ = trl_prompts(built)
    text = [int(token) for token in trainer.processing_class.tokenizer("What is number 3?")["input_ids"]]
    kept = engine.temperature, engine.max_completion_length, engine.generation_kwargs
    engine.temperature, engine.max_completion_length = HOT, 200
    engine.generation_kwargs = {"ignore_eos": True, **({"logit_bias": bias} if forbid else {})}
    _, completions, _, _ = engine.generate(
        [*prompts, *[text] * ROWS], [*images, *[None] * ROWS], ROWS if engine.mode == "server" else 1
    )
    engine.temperature, engine.max_completion_length, engine.generation_kwargs = kept
    tokens = [token for row in completions for token in row]
    return {"forbidden": sum(token in bias for token in tokens), "tokens": len(tokens)}


def main() -> None:
    recipe, out, where = sys.argv[1:]
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}  # as TRL sets them
    ensure_master_addr_port()
    torch.manual_seed(0)
    built = build(recipe, out, where)
    loads = not where.startswith("http:") and not _custom_ops._supports_onednn
    found: dict[str, Any] = {"loads": loads, "first": step(built, sync=loads)}
    if loads:
        with torch.no_grad():
            for weights in built.trainer.model.parameters():
                weights.add_(0.1 * weights.std() * torch.randn_like(weights))
        found["stale"] = step(built, sync=False)
        found["synced"] = step(built, sync=True)
    if where.startswith("http:"):
        try:
            built.trainer.vllm_generation.vllm_client.init_communicator(device="cpu")
        except (RuntimeError, OSError) as error:  # those of `requests` are OSErrors
            found["refused"] = str(error)
    found["free"] = sampled(built, forbid=False)
    found["forbidding"] = sampled(built, forbid=True)
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
