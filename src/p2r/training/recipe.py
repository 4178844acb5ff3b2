"""A training run as data, and its YAML file: every key is checked, and an unknown one is refused.

The defaults are the paper's settings (docs/paper.md). The resolved recipe, with every default written out, is
kept in the run folder and is a recipe itself.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from p2r.errors import InputError, MissingExtraError, file_problem
from p2r.models.options import split_spec
from p2r.nano import NAMES
from p2r.text import secret_field, without_secrets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Role = Literal["perceiver", "reasoner", "think", "direct"]  # of a completion
PhaseRole = Literal["perceiver", "reasoner", "joint", "think", "direct"]
ONE_PASS = ("think", "direct")  # roles without a frozen one

Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
AboveZero = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]

# The bounds of the papers; that of CISPO is a bound of the ratio itself (ScaleRL).
_CLIPS: dict[str, dict[str, float]] = {
    "dapo": {"clip_high": 0.28},
    "gspo": {"clip": 3e-4, "clip_high": 4e-4},
    "cispo": {"clip_high": 5.0},
}
BUNDLED = Path(__file__).parents[1] / "recipes"
_PATHS = ("data.samples", "data.scenes.folder", "launch.config", "shaping")
_MODELS = ("model", "judge")  # may name a folder, or something else


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class SceneSeries(_Part):
    """Synthetic scenes 0 to `count` − 1 of the train split."""

    count: Positive  # number of scenes
    seed: Natural = 0  # selects another series
    world: str = "tags"  # what they show; several worlds, separated by commas, take turns
    size: str = "4k"  # `2k`, `4k`, `8k` or `WIDTHxHEIGHT`: what the scene would measure
    # Images are drawn at this share of that size: crops are reduced anyway, and drawing takes most of the
    # time that preparing a small run takes.
    scale: Annotated[float, Field(gt=0, le=1)] = 1.0
    folder: str | None = None  # where they are drawn, to share them between runs; None for the run folder


class Data(_Part):
    """The training data: exactly one of `samples` and `scenes`."""

    samples: str | None = None  # a sample file (docs/data.md), relative to the recipe
    scenes: SceneSeries | None = None  # synthetic scenes
    limit: Positive | None = None  # number of samples, drawn by the recipe's seed
    # Longer prompts (after resizing, images included) are left out; None for the model's context less the
    # completion.
    max_prompt_tokens: Positive | None = None
    max_dropped: Share = 0.01  # the largest share of samples that may be left out; more is an error

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.samples is None) == (self.scenes is None):
            raise ValueError("give one of samples and scenes")
        return self


class Training(_Part):
    """How a phase is trained."""

    steps: Positive | None = None  # optimizer steps; None for `epochs`
    epochs: Positive = 1  # passes over the data where `steps` is not given
    prompts: Positive = 64  # prompts of one step
    group: Annotated[int, Field(ge=2)] = 8  # G, the completions of each prompt
    micro_batch: Positive = 8  # completions of one forward and backward pass on each device
    learning_rate: AboveZero = 1e-6  # of AdamW
    warmup_steps: Natural = 0  # steps until the learning rate is reached
    weight_decay: NotNegative = 0.01  # of AdamW
    max_grad_norm: AboveZero = 1.0  # a larger norm of the gradient is scaled down to it
    betas: tuple[Share, Share] = (0.9, 0.999)  # of AdamW
    schedule: Literal["constant", "linear", "cosine"] = "constant"  # of the learning rate after the warmup
    kl: NotNegative = 0.01  # coefficient of the KL divergence to the phase's first weights; 0 for none
    # A variant of GRPO; None for the paper's: the mean over all tokens of a step, symmetric clipping.
    loss: Literal["grpo", "dapo", "dr_grpo", "gspo", "cispo"] | None = None
    clip: AboveZero = 0.2  # ε of the clipped surrogate; a `loss` may have another default
    clip_high: AboveZero | None = None  # ε above a ratio of 1; None for `clip`, or the default of `loss`
    updates: Positive = 1  # µ, how often each batch of rollouts is used
    temperature: Annotated[float, Field(gt=0, le=2)] = 1.0  # of the rollouts
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0  # of the rollouts
    # Of a completion, without `settings.options.thinking_tokens`; None for the stage's limit in `settings`.
    max_tokens: Positive | None = None
    freeze_vision: bool = False  # train the language model only
    gradient_checkpointing: bool = True  # less memory, a third more time
    save_every: Positive = 10  # steps between the checkpoints that a stopped run continues from
    rollouts_every: Positive = 1  # steps between two whose rollouts are written
    trainer: dict[str, Any] = Field(default_factory=dict)  # more fields of TRL's GRPOConfig

    @model_validator(mode="before")
    @classmethod
    def _clip_of_the_loss(cls, data: Any) -> Any:
        return {**_CLIPS.get(str(data.get("loss")), {}), **data} if isinstance(data, dict) else data

    @model_validator(mode="after")
    def _updates_go_over_whole_steps(self) -> Self:
        if self.updates > 1 and "steps_per_generation" in self.trainer:
            raise ValueError(
                "updates above 1 need the rollouts of a step at once: leave out steps_per_generation"
            )
        return self


class Phase(Training):
    """One phase of a round: the role that is trained, and what differs from `training`."""

    # `perceiver`, `reasoner`, `joint` for both in the same steps; `think`, `direct`: one-pass baselines.
    role: PhaseRole

    @property
    def roles(self) -> tuple[Role, ...]:
        """The trained roles. Each prompt of a step has a group of completions of each."""
        return ("perceiver", "reasoner") if self.role == "joint" else (self.role,)

    @property
    def completions(self) -> int:
        """The number of completions of a step."""
        return self.prompts * self.group * len(self.roles)


class Gates(_Part):
    """What sets the reward of a box list to 0 (paper, perception reward); `malformed` is ours."""

    overlap: Share | None = 0.5  # fails if two boxes have a larger IoU; None for no gate
    label: bool = True  # fails if a box has no label, or the placeholder of the prompt
    malformed: bool = True  # fails without a usable box; without this gate the plain image is used


class Failures(_Part):
    """A phase stops when `most` of the last `window` rewards failed."""

    window: Positive = 200  # number of the last rewards that are looked at
    most: Positive = 50  # number of them that may fail

    @model_validator(mode="after")
    def _within(self) -> Self:
        if self.most > self.window:
            raise ValueError(f"most is {self.most}, more than the window of {self.window}")
        return self


class Frozen(_Part):
    """The model of the role that is not trained."""

    # `process`: in the training process, with the weights of the KL reference; `vllm`: a server that is
    # started for each phase; `endpoint`: a server that already runs.
    where: Literal["process", "vllm", "endpoint"] = "process"
    url: str | None = None  # address of the endpoint, as `http://host:port/v1#name`
    batch: Positive = 32  # completions generated together in the process
    concurrency: Positive = 64  # requests in flight to a server
    gpus: str | None = None  # GPUs of a vLLM, in the form of CUDA_VISIBLE_DEVICES; None for all
    vllm_arguments: tuple[str, ...] = ()  # more arguments of `vllm serve`

    @model_validator(mode="after")
    def _has_url(self) -> Self:
        if (self.where == "endpoint") != (self.url is not None):
            raise ValueError("url goes with where: endpoint, and is needed there")
        return self


class Lora(_Part):
    """Adapters instead of all weights. The frozen role and the KL reference are the base under them."""

    rank: Positive = 64  # of the two matrices of an adapter
    alpha: Positive = 128  # the scale of an adapter is `alpha` / `rank`
    dropout: Share = 0.0  # of the adapters' input
    # The layers with adapters: a regular expression over their names, or a list of names.
    targets: str | tuple[str, ...] = r".*language_model.*\.(q|k|v|o|gate|up|down)_proj"


class Rollouts(_Part):
    """The engine that generates rollouts."""

    # `transformers`; `vllm-colocate`: vLLM in the training processes; `vllm-server`: a server started with
    # `vllm serve` as TRL's documentation of its vLLM integration says.
    engine: Literal["transformers", "vllm-colocate", "vllm-server"] = "transformers"
    url: str | None = None  # address of the server
    memory: Annotated[float, Field(gt=0, lt=1)] = 0.35  # share of the GPU for a colocated vLLM
    tensor_parallel: Positive = 1  # GPUs of one copy of a colocated vLLM

    @model_validator(mode="after")
    def _has_url(self) -> Self:
        if (self.engine == "vllm-server") != (self.url is not None):
            raise ValueError("url goes with engine: vllm-server, and is needed there")
        return self


class Launch(_Part):
    """How the processes of a phase are started."""

    # A configuration of accelerate, for `accelerate launch`: a bundled one by name (ddp, fsdp2, zero3, each
    # also with -nodes), or a file; None for plain processes on this machine.
    config: str | None = None
    processes: Positive | None = None  # number of all; None for 1, or with a config for its own number
    main_address: str | None = None  # address of machine 0
    main_port: Annotated[int, Field(ge=1, le=65535)] | None = None  # port of machine 0
    threads: Positive | None = None  # OMP_NUM_THREADS of each process; by default 1 for several processes


class Recipe(_Part):
    """A whole run."""

    name: str  # of the run and of the final model
    model: str  # what is trained: `nano-base`, a folder or a hub id; options may follow (`NAME,thinking=off`)
    data: Data  # the training data
    seed: Natural = 0  # of the order of the data and of the rollouts
    rounds: Positive = 1  # passes through the phases
    training: Training = Training()  # defaults of every phase; a phase may set any of its keys itself
    phases: Annotated[list[Phase], Field(min_length=1)]  # of one round, in order
    gates: Gates = Gates()  # what sets the reward of a list of boxes to 0
    # `FILE.py:FUNCTION`, relative to the recipe: takes a `Rollout` with its reward, returns another reward.
    shaping: str | None = None
    failures: Failures = Failures()  # when a phase stops
    frozen: Frozen = Frozen()  # the role that is not trained
    rollouts: Rollouts = Rollouts()  # the engine that generates completions
    lora: Lora | None = None  # adapters; None trains all weights
    launch: Launch = Launch()  # the processes of a phase
    judge: str | None = None  # a model spec that judges free-form answers; `exact` for matching texts only
    settings: dict[str, Any] = Field(default_factory=dict)  # changes to the model's `p2r.json`
    precision: Literal["float32", "bfloat16"] = "bfloat16"  # of weights and computation
    attention: str | None = None  # of the language model, as transformers names it; None for its default
    report_to: tuple[Literal["tensorboard", "trackio", "wandb"], ...] = ()  # what else gets the metrics

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
    def _holds_no_secret(self) -> Self:
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
        """The recipe without passwords, and its model specs: as written down → with their logins."""
        specs = [spec for spec in (self.judge, self.frozen.url) if spec]
        logins = {without_secrets(spec): spec for spec in specs if without_secrets(spec) != spec}
        frozen = self.frozen.model_copy(update={"url": self.frozen.url and without_secrets(self.frozen.url)})
        changes = {"judge": self.judge and without_secrets(self.judge), "frozen": frozen}
        return self.model_copy(update=changes), logins

    def plan(self) -> list[tuple[int, Phase]]:
        """Every phase in order, with the number of its round from 1."""
        return [(number, phase) for number in range(1, self.rounds + 1) for phase in self.phases]


# The file.


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path, or the name of a bundled recipe such as `nano-smoke`.

    A file of that name in the current folder comes first. Only `load_recipe` reads the file.
    """
    bundled = BUNDLED / f"{name}.yaml"
    return bundled if not Path(name).exists() and bundled.exists() else Path(name)


def load_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply changes such as `training.steps=20` or `phases.0.kl=0.02`.

    Paths (`data.samples`, `data.scenes.folder`, `launch.config`, `shaping`, and `model` and `judge` where
    they name a folder) are made absolute: those in the file are relative to its folder, those in `changes`
    to the current one.

    Raises:
        InputError: the file cannot be read, a key is unknown or a value wrong; the text names the key.
        MissingExtraError: PyYAML is not installed.
    """
    data = _read(path)
    _make_absolute(data, path.parent.resolve())
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise InputError(f"--set {change}: write KEY=VALUE, for example training.steps=20")
        try:
            changed = {key: _parse(value)}
            _make_absolute(changed, Path.cwd())
            _put(data, key.split("."), changed[key])
        except (ValueError, IndexError, TypeError) as error:
            raise InputError(f"--set {change}: {' '.join(str(error).split())}") from error
    return _validated(data, path)


def read_resolved(path: Path) -> tuple[Recipe, list[str]]:
    """The recipe of a finished or running run, and its keys that recipes no longer have."""
    data = _read(path)
    unknown: list[tuple[int | str, ...]] = []
    try:
        Recipe.model_validate(data)
    except ValidationError as error:
        unknown = [one["loc"] for one in error.errors() if one["type"] == "extra_forbidden"]
    for *above, last in unknown:
        part: Any = data
        for key in above:
            part = part[key]
        part.pop(last, None)  # a phase may have inherited it from `training`
    return _validated(data, path), [".".join(map(str, place)) for place in unknown]


def dump_recipe(recipe: Recipe) -> str:
    """The recipe with every default written out, as YAML that `load_recipe` takes."""
    import yaml

    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


def _read(path: Path) -> dict[str, Any]:
    try:
        data = _parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        names = ", ".join(sorted(bundled.stem for bundled in BUNDLED.glob("*.yaml")))
        hint = f"give a YAML file (docs/training.md), or the name of a bundled recipe: {names}"
        raise InputError(f"recipe {path}: {file_problem(error, hint)}") from error
    except ValueError as error:
        raise InputError(f"recipe {path}: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"recipe {path}: a mapping of keys is needed")
    return data


def _parse(text: str) -> Any:
    """YAML as data; ValueError when it is none."""
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("train", "pyyaml") from error

    class Loader(yaml.SafeLoader):
        """YAML 1.1 reads 1e-6, without a dot, as a text; here it is a number."""

    number = re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    try:
        return yaml.load(text, Loader=Loader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _put(data: Any, keys: list[str], value: Any) -> None:
    *above, last = keys
    for key in above:
        if isinstance(data, list):
            data = data[int(key)]
            continue
        if not isinstance(data.get(key), dict | list):
            data[key] = {}
        data = data[key]
    data[int(last) if isinstance(data, list) else last] = value


def _validated(data: Mapping[str, Any], path: Path) -> Recipe:
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = [part for part in first["loc"] if part != "function-before"]
        key = ".".join(str(part) for part in place)
        if first["type"] == "extra_forbidden":
            known = _known_keys(place[:-1])
            close = difflib.get_close_matches(str(place[-1]), known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
            raise InputError(f"recipe {path}: unknown key {key}; {hint}") from error
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"recipe {path}: {key or 'top level'}: {message}") from error


def _known_keys(place: Sequence[Any]) -> list[str]:
    parts: dict[Any, type[_Part]] = {
        "data": Data, "scenes": SceneSeries, "training": Training, "phases": Phase, "gates": Gates,
        "failures": Failures, "frozen": Frozen, "rollouts": Rollouts, "lora": Lora, "launch": Launch,
    }  # fmt: skip
    kinds = [parts[part] for part in place if part in parts]
    return list((kinds or [Recipe])[-1].model_fields)


def _make_absolute(data: Any, folder: Path, place: str = "") -> None:
    """Make the paths in `data`, the part of a recipe at the key `place`, absolute in place."""
    if not isinstance(data, dict):
        return
    for key, value in data.items():
        where = f"{place}.{key}".lstrip(".")
        if not isinstance(value, str):
            _make_absolute(value, folder, where)
        elif where == "launch.config" and (bundled := BUNDLED / f"accelerate/{value}.yaml").exists():
            data[key] = str(bundled)
        elif where in _PATHS:
            data[key] = str(folder / Path(value).expanduser())
        elif where in _MODELS:
            name = split_spec(value)[0].removeprefix("vllm:")
            path = folder / Path(name).expanduser()
            if name not in NAMES and path.is_dir():
                data[key] = value.replace(name, str(path), 1)
