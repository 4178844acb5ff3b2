"""A recipe as a YAML file, and `--set a.b=c` on top of it.

The resolved recipe, with every default written out, is kept in the run folder and is a recipe itself.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from p2r.errors import InputError, MissingExtraError, file_problem
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
    from pathlib import Path


def load_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply changes such as `training.steps=20` or `phases.0.kl=0.02`.

    Paths inside it (`data.samples`, `data.scenes.folder`, `launch.config`) are made absolute, seen from the
    recipe's folder.

    Raises:
        InputError: the file cannot be read, a key is unknown or a value wrong; the text names the key.
        MissingExtraError: PyYAML is not installed.
    """
    yaml = _yaml()
    data = _read(path, yaml)
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise InputError(f"--set {change}: write KEY=VALUE, for example training.steps=20")
        try:
            _put(data, key.split("."), yaml.load(value, Loader=_loader(yaml)))
        except (yaml.YAMLError, ValueError, IndexError, TypeError) as error:
            raise InputError(f"--set {change}: {' '.join(str(error).split())}") from error
    return _absolute(_validated(data, str(path)), path.parent.resolve())


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


def _absolute(recipe: Recipe, folder: Path) -> Recipe:
    data = recipe.data
    if data.samples is not None:
        data = data.model_copy(update={"samples": str(folder / data.samples)})
    if data.scenes is not None and data.scenes.folder is not None:
        scenes = data.scenes.model_copy(update={"folder": str(folder / data.scenes.folder)})
        data = data.model_copy(update={"scenes": scenes})
    launch = recipe.launch
    if launch.config is not None:
        launch = launch.model_copy(update={"config": str(folder / launch.config)})
    return recipe.model_copy(update={"data": data, "launch": launch})
