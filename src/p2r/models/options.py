"""Options of one model: whether it thinks, and what its server accepts. They may be written in its spec.

    Qwen/Qwen3.5-4B,thinking=off
    vllm:Qwen/Qwen3-VL-8B-Thinking,thinking_tokens=4096
    https://host/v1#gpt-5,max_tokens_field=max_completion_tokens,temperature=omit
    http://host/v1#name,extra_body.top_k=20,chat_template_kwargs.enable_thinking=false

A comma separates options only where the name of an option and `=` (or a dot) follow.
"""

from __future__ import annotations

import contextlib
import json
import re
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from p2r.errors import InputError
from p2r.text import secret_field

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from p2r.models.base import Sampling

T = TypeVar("T")

# What a request says itself: `extra_body` must not replace it.
_OWN_FIELDS = ("model", "messages", "stream", "max_tokens", "max_completion_tokens", "temperature")


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """What is sent to one model beside the messages.

    Attributes:
        thinking: switches the thinking of models that can do both on or off, by the variable
            `enable_thinking` of their chat template; None leaves it to the model.
        thinking_tokens: new tokens for the thinking, in addition to each stage's limit (unless `thinking`
            is off).
        chat_template_kwargs: further variables of the chat template.
        extra_body: further fields in the body of each request to a server.
        max_tokens_field: the server's name for the token limit; `auto` learns it from the server's refusal.
        temperature: `omit` leaves it to the server, a number replaces ours; `auto` sends ours unless the
            server refuses it.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    thinking: bool | None = None
    thinking_tokens: Annotated[int, Field(ge=0)] = 0
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict, hash=False)
    extra_body: dict[str, Any] = field(default_factory=dict, hash=False)
    max_tokens_field: Literal["auto", "max_tokens", "max_completion_tokens"] = "auto"
    temperature: Literal["auto", "omit"] | Annotated[float, Field(ge=0, le=2)] = "auto"

    def __post_init__(self) -> None:
        if reserved := sorted(self.extra_body.keys() & set(_OWN_FIELDS)):
            raise InputError(f"extra_body.{reserved[0]}: this field is set by the request itself")
        for part in ("extra_body", "chat_template_kwargs"):
            if named := secret_field(getattr(self, part)):
                raise InputError(
                    f"{part}.{named}: options are written into results and checkpoints, and a key must not "
                    "be: set P2R_API_KEY, or write it into the URL, before the host or in its query"
                )

    def template_kwargs(self) -> dict[str, Any]:
        """The variables for the chat template, `thinking` among them."""
        switch = {} if self.thinking is None else {"enable_thinking": self.thinking}
        return {**switch, **self.chat_template_kwargs}

    def widened(self, sampling: Sampling) -> Sampling:
        """The sampling with room for the thinking."""
        if self.thinking is False or not self.thinking_tokens:
            return sampling
        return replace(sampling, max_tokens=sampling.max_tokens + self.thinking_tokens)

    def updated(self, changes: Mapping[str, Any], *, where: str = "options") -> ModelOptions:
        """These options with `changes` laid over them.

        Raises:
            InputError: names the option and what is wrong with it.
        """
        return checked(ModelOptions, merged(asdict(self), changes), where=where) if changes else self


# How a checkpoint is loaded: in a spec, but not in the settings (see `p2r.models.placement`).
PLACEMENT = ("device", "dtype", "attention", "quantize")
OPTION_NAMES = (*(entry.name for entry in fields(ModelOptions)), *PLACEMENT)
_OPTION = re.compile(rf",(?=(?:{'|'.join(OPTION_NAMES)})(?:\.[\w.-]+)?=)")
_LOOKS_LIKE_AN_OPTION = re.compile(r",(\w+)(?:\.[\w.-]+)?=")


def split_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """A model's spec → the spec without its options, and the options as changes for `updated`.

    Raises:
        InputError: an unknown option.
    """
    folder = _existing_folder(spec)
    rest, *options = _OPTION.split(spec.removeprefix(folder))
    changes: dict[str, Any] = {}
    for part in (rest, *options):
        if part[part.find("=") + 1 :][:1] in ("{", "[", '"'):
            continue  # JSON: what looks like an option in it is none
        if found := _LOOKS_LIKE_AN_OPTION.search(part):
            raise InputError(f"model {spec}: unknown option {found[1]!r} (known: {', '.join(OPTION_NAMES)})")
    for option in options:
        changes = merged(changes, read_assignment(option))
    return folder + rest, changes


def _existing_folder(spec: str) -> str:
    """The longest beginning of a spec, up to a comma, that exists: it may look like options.

    Folders of experiments are often named after their parameters: `lr=1e-6,temperature=1`.
    """
    parts = spec.split(",")
    for end in range(len(parts), 1, -1):
        start = ",".join(parts[:end])
        with contextlib.suppress(OSError, ValueError):
            if Path(start.removeprefix("vllm:")).expanduser().exists():
                return start
    return ""


# Changes of options and settings: written as `a.b=value`, merged, and checked.

_SWITCHES = {"on": True, "true": True, "off": False, "false": False}


def read_assignment(text: str) -> dict[str, Any]:
    """`geometry.max_crops=1` → `{"geometry": {"max_crops": 1}}`.

    The value is JSON if it parses as such, `on`, `off`, `true` and `false` in any case are booleans, and
    anything else is text.

    Raises:
        InputError: it is not written as KEY=VALUE.
    """
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise InputError(f"{text}: write KEY=VALUE, for example geometry.max_crops=1")
    changes: Any = _value(value.strip())
    for key in reversed(keys):
        changes = {key: changes}
    result: dict[str, Any] = changes
    return result


def _value(text: str) -> Any:
    if text.lower() in _SWITCHES:
        return _SWITCHES[text.lower()]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it: dictionaries are merged at every depth, other values replaced."""
    result = dict(base)
    for key, value in changes.items():
        below = result.get(key)
        result[key] = merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def checked(kind: type[T], data: object, *, where: str) -> T:
    """Build a dataclass from plain data, refusing unknown keys.

    Raises:
        InputError: `where`, the key, and what is wrong with it.
    """
    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        errors = error.errors()
        place = errors[0]["loc"]
        if place and "[" in str(place[-1]):  # the name of a type: a union has an error for each of its types
            place = place[:-1]
        same = (entry["msg"] for entry in errors if entry["loc"][: len(place)] == place)
        what = "; or: ".join(dict.fromkeys(same)).removeprefix("Value error, ")
        if errors[0]["type"] == "unexpected_keyword_argument":
            what = f"there is no such key; known: {', '.join(_keys(kind, place[:-1]))}"
        key = ".".join(str(part) for part in place) or "top level"
        raise InputError(f"{where}: {key}: {what}") from error


def _keys(kind: type[Any], place: Sequence[int | str]) -> list[str]:
    """The keys of a dataclass whose fields have defaults, or of one that it holds."""
    data = kind()
    for name in place:
        data = getattr(data, str(name))
    return [entry.name for entry in fields(data)]
