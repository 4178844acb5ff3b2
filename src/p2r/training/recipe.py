"""A training run as data: every key checked at birth, unknown ones refused.

The defaults are the paper's settings (docs/paper.md). `recipefile` reads and writes it as YAML.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from p2r.text import secret_field, without_secrets

Role = Literal["perceiver", "reasoner", "think", "direct"]

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Scenes(_Part):
    """Synthetic scenes of the train split.

    Attributes:
        count, seed: scenes 0 to `count` − 1 of a series.
        size: `2k`, `4k`, `8k` or `WIDTHxHEIGHT`: what the scene would measure.
        scale: images are drawn at this share of that size; crops are shrunk anyway, and drawing takes most
            of the time that preparing a small run takes.
        folder: where they are drawn, to share them between runs; None for the run folder.
    """

    count: Positive
    seed: Annotated[int, Field(ge=0)] = 0
    size: str = "4k"
    scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    folder: str | None = None


class Data(_Part):
    """What is trained on: exactly one of `samples` and `scenes`.

    Attributes:
        samples: a sample file (docs/scoring.md; what `p2r data` and `p2r scenes` write); relative to
            the recipe.
        scenes: synthetic scenes instead.
        limit: take so many samples, drawn by the recipe's seed.
        max_prompt_tokens: longer prompts (after resizing, images included) are left out; None for the
            model's context less the completion.
        max_dropped: more than this share left out is an error.
    """

    samples: str | None = None
    scenes: Scenes | None = None
    limit: Positive | None = None
    max_prompt_tokens: Positive | None = None
    max_dropped: Share = 0.01

    @model_validator(mode="after")
    def _one_source(self) -> Data:
        if (self.samples is None) == (self.scenes is None):
            raise ValueError("give one of samples and scenes")
        return self


class Training(_Part):
    """How a phase is trained.

    Attributes:
        steps: optimizer steps; None for `epochs`.
        epochs: passes over the data when `steps` is None.
        prompts: prompts of one step.
        group: G, the completions of each prompt.
        micro_batch: completions of one forward and backward on each device.
        learning_rate, warmup_steps, weight_decay, max_grad_norm, betas: of AdamW.
        schedule: of the learning rate: `constant`, `linear` or `cosine`.
        kl: the coefficient of the KL divergence to the phase's first weights; 0 for none.
        clip: ε of the clipped surrogate.
        updates: µ, how often each batch of rollouts is used.
        temperature, top_p: of the rollouts.
        max_tokens: of a completion, without `settings.options.thinking_tokens`; None for the model's own
            limit of this stage.
        freeze_vision: train the language model only.
        gradient_checkpointing: less memory, a third more time.
        save_every: steps between checkpoints that a stopped run continues from.
        rollouts_every: steps between those whose rollouts are kept.
        trainer: more fields of TRL's GRPOConfig, as they are.
    """

    steps: Positive | None = None
    epochs: Positive = 1
    prompts: Positive = 64
    group: Annotated[int, Field(ge=2)] = 8
    micro_batch: Positive = 8
    learning_rate: Annotated[float, Field(gt=0)] = 1e-6
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    betas: tuple[Share, Share] = (0.9, 0.999)
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    kl: Annotated[float, Field(ge=0)] = 0.01
    clip: Annotated[float, Field(gt=0)] = 0.2
    updates: Positive = 1
    temperature: Annotated[float, Field(gt=0, le=2)] = 1.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_tokens: Positive | None = None
    freeze_vision: bool = False
    gradient_checkpointing: bool = True
    save_every: Positive = 10
    rollouts_every: Positive = 1
    trainer: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _updates_go_over_whole_steps(self) -> Self:
        if self.updates > 1 and "steps_per_generation" in self.trainer:
            raise ValueError(
                "updates above 1 need the rollouts of a step at once: leave out steps_per_generation"
            )
        return self


class Phase(Training):
    """One phase of a round: who acts, and what differs from `training`.

    Attributes:
        role: `perceiver` or `reasoner`; or a one-pass baseline, `think` or `direct`.
    """

    role: Role


class Gates(_Part):
    """What sets the reward of a box list to 0 (paper, perception reward), and ours for malformed text.

    Attributes:
        overlap: two boxes with a larger IoU; None for no gate.
        label: a box without a label, or with the placeholder of the prompt.
        malformed: nothing usable was written. Without this gate the plain image is answered about.
    """

    overlap: Share | None = 0.5
    label: bool = True
    malformed: bool = True


class Failures(_Part):
    """When a phase stops because calls fail.

    Attributes:
        window: the last so many rewards are looked at.
        most: so many of them may fail at most.
    """

    window: Positive = 200
    most: Positive = 50

    @model_validator(mode="after")
    def _within(self) -> Failures:
        if self.most > self.window:
            raise ValueError(f"most is {self.most}, more than the window of {self.window}")
        return self


class Frozen(_Part):
    """Who plays the role that is not trained.

    Attributes:
        where: `process`: in the training process, with the weights of the KL reference; `vllm`: a server that
            is started for each phase; `endpoint`: one that runs already.
        url: of the endpoint, as `http://host:port/v1#name`.
        batch: completions generated together in the process.
        concurrency: requests in flight to a server.
        gpus: the GPUs of a vLLM, as CUDA_VISIBLE_DEVICES takes them; None for all.
        vllm_arguments: more arguments of `vllm serve`.
    """

    where: Literal["process", "vllm", "endpoint"] = "process"
    url: str | None = None
    batch: Positive = 32
    concurrency: Positive = 64
    gpus: str | None = None
    vllm_arguments: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _has_url(self) -> Frozen:
        if (self.where == "endpoint") != (self.url is not None):
            raise ValueError("url goes with where: endpoint, and is needed there")
        return self


class Lora(_Part):
    """Adapters instead of all weights. The frozen role and the KL reference are the base under them."""

    rank: Positive = 64
    alpha: Positive = 128
    dropout: Share = 0.0
    targets: str | tuple[str, ...] = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"


class Rollouts(_Part):
    """Who writes the rollouts.

    Attributes:
        engine: `transformers`; `vllm-colocate`: vLLM in the training processes; `vllm-server`: a server
            started with `vllm serve` as TRL's documentation of its vLLM integration says.
        url: of the server.
        memory: share of the GPU for a colocated vLLM.
        tensor_parallel: GPUs of one copy of a colocated vLLM.
    """

    engine: Literal["transformers", "vllm-colocate", "vllm-server"] = "transformers"
    url: str | None = None
    memory: Annotated[float, Field(gt=0, lt=1)] = 0.35
    tensor_parallel: Positive = 1

    @model_validator(mode="after")
    def _has_url(self) -> Rollouts:
        if (self.engine == "vllm-server") != (self.url is not None):
            raise ValueError("url goes with engine: vllm-server, and is needed there")
        return self


class Launch(_Part):
    """How the processes of a phase are started.

    Attributes:
        config: a configuration of accelerate (recipes/accelerate/), for `accelerate launch`; relative to the
            recipe. None for plain processes on this machine.
        processes: how many in all; with a config, None for its own number.
        main_address, main_port: where machine 0 is.
        threads: OMP_NUM_THREADS of each process; None leaves it, and makes it 1 for several processes.
    """

    config: str | None = None
    processes: Positive | None = None
    main_address: str | None = None
    main_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    threads: Positive | None = None


class Recipe(_Part):
    """A whole run.

    Attributes:
        name: shown to people, and the name of the final model.
        model: what is trained: `nano-base`, a folder or a hub id; options may follow (`NAME,thinking=off`).
        seed: of the order of the data and of the rollouts.
        rounds: how often the phases are gone through.
        phases: of one round, in order; either may be left out.
        training: defaults of every phase; a phase may set any of its keys itself.
        data, rewards (gates), failures, frozen, rollouts, lora, launch: see each.
        judge: a model spec that judges free-form answers; None for matching texts only.
        settings: changes to the model's settings (prompts, geometry, budgets, options), as in `p2r.json`.
        precision: of weights and computation.
        attention: attention of the language model, as transformers names it; None for its default.
        report_to: what else gets the metrics: `tensorboard`, `trackio`, `wandb`.
    """

    name: str
    model: str
    data: Data
    seed: Annotated[int, Field(ge=0)] = 0
    rounds: Positive = 1
    training: Training = Training()
    phases: Annotated[list[Phase], Field(min_length=1)]
    gates: Gates = Gates()
    failures: Failures = Failures()
    frozen: Frozen = Frozen()
    rollouts: Rollouts = Rollouts()
    lora: Lora | None = None
    launch: Launch = Launch()
    judge: str | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    attention: str | None = None
    report_to: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _phases_inherit(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        shared = data.get("training") or {}
        phases = data.get("phases", [{"role": "perceiver"}, {"role": "reasoner"}])
        if isinstance(shared, dict) and isinstance(phases, list):
            data = {**data, "phases": [{**shared, **p} if isinstance(p, dict) else p for p in phases]}
        return data

    @model_validator(mode="after")
    def _holds_no_secret(self) -> Recipe:
        named = secret_field({"training": self.training.trainer, "settings": self.settings})
        named = named or secret_field([phase.trainer for phase in self.phases])
        if self.rollouts.url and without_secrets(self.rollouts.url) != self.rollouts.url:
            named = "rollouts.url"
        if any(word.startswith(("--api-key", "--hf-token")) for word in self.frozen.vllm_arguments):
            named = "frozen.vllm_arguments"
        if named:
            raise ValueError(
                f"{named} holds a key or a password, and a recipe is copied into the run folder: give it by "
                "the environment (HF_TOKEN, WANDB_API_KEY, P2R_API_KEY)"
            )
        return self

    def without_logins(self) -> tuple[Recipe, dict[str, str]]:
        """The recipe as it may be written down, and what its model specs were: as written → with logins."""
        specs = [spec for spec in (self.judge, self.frozen.url) if spec]
        logins = {without_secrets(spec): spec for spec in specs if without_secrets(spec) != spec}
        url = self.frozen.url and without_secrets(self.frozen.url)
        changes = {"frozen": self.frozen.model_copy(update={"url": url})}
        judge = self.judge and without_secrets(self.judge)
        return self.model_copy(update={"judge": judge, **changes}), logins

    def plan(self) -> list[tuple[int, Phase]]:
        """Every phase in order, with the number of its round from 1."""
        return [(number, phase) for number in range(1, self.rounds + 1) for phase in self.phases]
