"""A recipe as a YAML file, and `--set a.b=c` on top of it.

The resolved recipe, with every default written out, is kept in the run folder and is a recipe itself.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from p2r.errors import InputError, MissingExtraError, file_problem
from p2r.models.options import split_spec
from p2r.nano import NAMES
from p2r.training.recipe import (
    Data,
    Failures,
    Frozen,
    Gates,
    Launch,
    Lora,
    Phase,
    Recipe,
    Rollouts,
    Scenes,
    Training,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PATHS = ("data.samples", "data.scenes.folder", "launch.config")
_MODELS = ("model", "judge")  # may name a folder, or something else


def load_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply changes such as `training.steps=20` or `phases.0.kl=0.02`.

    Paths (`data.samples`, `data.scenes.folder`, `launch.config`, and `model` and `judge` where they name a
    folder) are made absolute: those in the file are relative to its folder, those in `changes` to the current
    one.

    Raises:
        InputError: the file cannot be read, a key is unknown or a value wrong; the text names the key.
        MissingExtraError: PyYAML is not installed.
    """
    yaml = _yaml()
    data = _read(path, yaml)
    _make_absolute(data, path.parent.resolve())
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise InputError(f"--set {change}: write KEY=VALUE, for example training.steps=20")
        try:
            alone: dict[str, Any] = {}
            _put(alone, [key], yaml.load(value, Loader=_loader(yaml)))
            _make_absolute(alone, Path.cwd())
            _put(data, key.split("."), alone[key])
        except (yaml.YAMLError, ValueError, IndexError, TypeError) as error:
            raise InputError(f"--set {change}: {' '.join(str(error).split())}") from error
    return _validated(data, str(path))


def read_resolved(path: Path) -> tuple[Recipe, list[str]]:
    """The recipe of a run that was made, and its keys that no recipe has any more.

    Raises:
        InputError: the file cannot be read, or a value is wrong.
        MissingExtraError: PyYAML is not installed.
    """
    data = _read(path, _yaml())
    unknown: list[tuple[int | str, ...]] = []
    try:
        Recipe.model_validate(data)
    except ValidationError as error:
        unknown = [one["loc"] for one in error.errors() if one["type"] == "extra_forbidden"]
    for *above, last in unknown:
        part: Any = data
        for key in above:
            part = part[key]
        part.pop(last, None)  # a phase that does not say it itself has it from `training`
    return _validated(data, str(path)), [".".join(map(str, place)) for place in unknown]


def dump_recipe(recipe: Recipe) -> str:
    """The recipe with every default written out, as YAML that `load_recipe` takes."""
    import yaml

    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise MissingExtraError("train", "pyyaml") from error
    return yaml


def _read(path: Path, yaml: Any) -> dict[str, Any]:
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_loader(yaml))
    except yaml.YAMLError as error:
        text = " ".join(str(error).split())
        raise InputError(f"recipe {path}: {text}") from error
    except (OSError, UnicodeDecodeError) as error:
        hint = "the project's recipes are in its folder recipes/, and docs/training.md explains them"
        raise InputError(f"recipe {path}: {file_problem(error, hint)}") from error
    if not isinstance(data, dict):
        raise InputError(f"recipe {path}: a mapping of keys is needed")
    return data


def _loader(yaml: Any) -> Any:
    # YAML 1.1 reads 1e-6, without a dot, as a text; people write it all the time.
    import re

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        pass

    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )
    return Loader


def _put(data: Any, keys: list[str], value: Any) -> None:
    *above, last = keys
    for key in above:
        if isinstance(data, list):
            data = data[int(key)]
            continue
        if not isinstance(data.get(key), dict | list):
            data[key] = {}
        data = data[key]
    if isinstance(data, list):
        data[int(last)] = value
    else:
        data[last] = value


def _validated(data: Mapping[str, Any], where: str) -> Recipe:
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
            raise InputError(f"recipe {where}: unknown key {key}; {hint}") from error
        message = first["msg"].removeprefix("Value error, ")
        raise InputError(f"recipe {where}: {key or 'top level'}: {message}") from error


def _known_keys(place: Sequence[Any]) -> list[str]:
    kind: Any = Recipe
    parts: dict[str, Any] = {
        "data": Data, "scenes": Scenes, "training": Training, "phases": Phase, "gates": Gates,
        "failures": Failures, "frozen": Frozen, "rollouts": Rollouts, "lora": Lora, "launch": Launch,
    }  # fmt: skip
    for part in place:
        kind = parts.get(part, kind) if isinstance(part, str) else kind
    return list(kind.model_fields)


def _make_absolute(data: Any, folder: Path, place: str = "") -> None:
    """Make the paths of a recipe absolute, in place.

    Args:
        data: of the recipe, or a part of it.
        folder: what they are relative to.
        place: the key of the part.
    """
    if not isinstance(data, dict):
        return
    for key, value in data.items():
        where = f"{place}.{key}".lstrip(".")
        if not isinstance(value, str):
            _make_absolute(value, folder, where)
        elif where in _PATHS:
            data[key] = str(folder / Path(value).expanduser())
        elif where in _MODELS:
            name = split_spec(value)[0].removeprefix("vllm:")
            path = folder / Path(name).expanduser()
            if name not in NAMES and path.is_dir():
                data[key] = value.replace(name, str(path), 1)
