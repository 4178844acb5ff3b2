"""Who may know whom: what importing loads in a fresh interpreter, and what each layer names in its source."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import p2r

SOURCE = Path(p2r.__file__).parent
CORE = [
    *("p2r.types", "p2r.errors", "p2r.settings", "p2r.prompts", "p2r.images", "p2r.evidence", "p2r.parsing"),
    *("p2r.scoring", "p2r.scoring.judge", "p2r.models.base", "p2r.pipeline"),
    *("p2r.datasets.samples", "p2r.checks"),
]
HEAVY = [
    *("torch", "torchvision", "transformers", "trl", "accelerate", "peft", "datasets", "matplotlib"),
    *("pandas", "fastapi", "starlette", "uvicorn", "gradio", "httpx", "openai", "sympy"),
]


# What importing loads.


def loaded(statement: str, candidates: list[str], path: Path | None = None) -> list[str]:
    """Which of the candidates a fresh interpreter has loaded after a statement."""
    code = f"import sys\n{statement}\nprint(*[name for name in {candidates!r} if name in sys.modules])"
    environment = os.environ | ({"PYTHONPATH": str(path)} if path else {})
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()[-1].split()


def test_the_core_loads_nothing_heavy() -> None:
    assert loaded(f"import p2r, {', '.join(CORE)}", HEAVY) == []


def test_that_test_can_fail(tmp_path: Path) -> None:
    (tmp_path / "torch.py").touch()
    (tmp_path / "layer.py").write_text("import torch\n")
    assert loaded("import p2r, layer", HEAVY, tmp_path) == ["torch"]


def test_import_p2r_loads_not_even_numpy() -> None:
    light = ["numpy", "PIL", "pyvips", "pydantic", "typer", "rich", "p2r.types"]
    assert loaded("import p2r", light) == []
    assert loaded("import p2r; p2r.Box", light) == ["p2r.types"]


def help_loads(arguments: list[str], candidates: list[str]) -> list[str]:
    return loaded(
        f"from p2r.cli import app\ntry:\n    app({arguments!r})\nexcept SystemExit:\n    print()", candidates
    )


def test_help_loads_only_what_it_prints_with() -> None:
    light = ["numpy", "PIL", "pyvips", "asyncio", "rich"]
    assert help_loads(["--help"], [*HEAVY, *light, "pydantic"]) == []
    assert help_loads(["answer", "--help"], [*HEAVY, *light]) == []


# What is imported is declared, and what is declared is imported.

NOT_IMPORTED = {
    "bitsandbytes": "transformers quantizes with it",
    "torchvision": "the image processors of transformers import it",
}
BROUGHT_BY_USERS = {"vllm": "its version goes with the machine; p2r train --check looks at it"}


def third_party(root: Path) -> set[str]:
    """The distributions whose modules are imported under `root`."""
    modules = {name.split(".")[0] for file in root.rglob("*.py") for name in imports(file, root) if name}
    modules -= {*sys.stdlib_module_names, "p2r", "pydantic_core", *BROUGHT_BY_USERS}
    distributions = importlib.metadata.packages_distributions()
    # Not every extra is installed; one that is not is named as its module.
    return {distributions.get(module, [module])[0].lower().replace("_", "-") for module in modules}


def test_dependencies_are_what_is_imported() -> None:
    project = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    written = [*project["dependencies"], *(entry for extra in extras for entry in extra)]
    names = {re.split(r"[^\w.-]", entry)[0].lower() for entry in written} - {"perceive-to-reason"}
    assert third_party(SOURCE) == names - set(NOT_IMPORTED)


# Every public name is exported.


def test_every_exported_name_can_be_had() -> None:
    assert sorted(p2r.__all__) == list(p2r.__all__)
    assert all(getattr(p2r, name) is not None for name in p2r.__all__)
    assert set(p2r.__all__) <= set(dir(p2r))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = p2r.nothing


@pytest.mark.parametrize(
    "module", ["box", "types", "errors", "settings", "models.base", "pipeline", "images"]
)
def test_every_public_class_is_exported(module: str) -> None:
    found = importlib.import_module(f"p2r.{module}")
    public = {
        name
        for name, value in inspect.getmembers(found, inspect.isclass)
        if value.__module__ == found.__name__ and not name.startswith("_")
    }
    internal = {"PredictionBuilder"}
    assert public - internal <= set(p2r.__all__)


def test_type_checkers_see_what_is_loaded_lazily() -> None:
    block = next(
        node for node in ast.parse((SOURCE / "__init__.py").read_text()).body if isinstance(node, ast.If)
    )
    seen = {
        alias.name: statement.module
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    assert seen == p2r._HOME_OF


# What each file imports, at its top, inside a function or under TYPE_CHECKING.


def modules(root: Path) -> dict[str, Path]:
    """Dotted name → file of every module under `root` (a `src/p2r`), without `p2r/__init__.py` itself."""
    found = {}
    for file in root.rglob("*.py"):
        parts = file.relative_to(root).with_suffix("").parts
        if parts != ("__init__",):
            found[".".join(["p2r", *parts]).removesuffix(".__init__")] = file
    return found


def imports(file: Path, root: Path) -> set[str]:
    """The dotted names that a file imports: `a.b` for `from a import b`, and `a` unless `a.b` is a module."""
    package = ["p2r", *file.relative_to(root).parent.parts]
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            folder = root.joinpath(*module.split(".")[1:])
            for alias in node.names:
                is_module = (folder / alias.name).is_dir() or (folder / f"{alias.name}.py").is_file()
                names |= {f"{module}.{alias.name}"} | (set() if is_module else {module})
    return names


# The order in which the source can be read: a module imports only what comes before it, and its own package.
ORDER = (
    *("text", "errors", "images", "box", "types", "parsing", "nano", "models.base", "models.options"),
    *(
        "prompts",
        "settings",
        "models",
        "evidence",
        "looks",
        "_sync",
        "pipeline",
        "scoring",
        "runs",
        "datasets",
    ),
    *("scenes", "visualization", "checks", "model_checks", "evaluation", "training", "serving"),
    *("report", "cli", "__main__"),
)
# Module or package → what it must not name although it comes before it.
FORBIDDEN: dict[str, tuple[str, ...]] = {
    "models": (
        *(
            "p2r.types.Question",
            "p2r.types.Sample",
            "p2r.types.Box",
            "p2r.types.Perception",
            "p2r.types.Score",
            "p2r.box",
        ),
        *("p2r.prompts", "p2r.parsing.perception", "p2r.parsing.answers", "p2r.parsing.options"),
    ),
    "pipeline": ("p2r.types.Sample",),
    "prompts": ("p2r.types.Sample",),
    "training": ("p2r.evaluation", "p2r.datasets.p2r10k"),
    "serving": ("p2r.evaluation", "p2r.training", "p2r.scoring"),
    "report": ("p2r.serving", "p2r.datasets.p2r10k"),
}
# What a data type draws itself with. It is loaded by the methods that draw: `types` itself stays light.
WHEN_CALLED = {"p2r.types": ("p2r.visualization",)}
ONLY_TRAINING = ("trl", "accelerate")


def inside(name: str, packages: tuple[str, ...]) -> bool:
    """Whether a dotted name is one of the packages or lies in one."""
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


def place(name: str) -> int:
    """The place of a module or a name in it, by the longest entry of `ORDER`; −1 for what is not ours."""
    entries = [entry for entry in ORDER if inside(name, (f"p2r.{entry}",))]
    return ORDER.index(max(entries, key=len)) if entries else -1


def violations(root: Path) -> list[str]:
    """Every import under `root` that breaks a rule, as `module: name`."""
    found = []
    for module, file in sorted(modules(root).items()):
        home = module.split(".")[1]
        banned = (*FORBIDDEN.get(home, ()), *(() if home == "training" else ONLY_TRAINING))
        names = sorted(name for name in imports(file, root) if not inside(name, WHEN_CALLED.get(module, ())))
        found += [
            f"{module}: {name}" for name in names if place(name) > place(module) or inside(name, banned)
        ]
    return found


def cycles(root: Path) -> list[str]:
    """The modules under `root` that import themselves by way of others, and those between two cycles."""
    known = modules(root)
    edges = {module: (imports(file, root) & set(known)) - {module} for module, file in known.items()}
    for module, later in WHEN_CALLED.items():
        edges[module] = {name for name in edges.get(module, ()) if not inside(name, later)}
    while True:
        imported = set().union(*edges.values())
        free = {module for module, names in edges.items() if not names or module not in imported}
        if not free:
            return sorted(edges)
        edges = {module: names - free for module, names in edges.items() if module not in free}


def test_every_module_imports_only_what_comes_before_it() -> None:
    assert violations(SOURCE) == []


def test_no_file_imports_itself_by_way_of_others() -> None:
    assert cycles(SOURCE) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("serving/app.py", "from p2r.scoring import score"),
        ("serving/app.py", "def ask():\n    import p2r.evaluation.run"),
        ("evaluation/run.py", "from p2r import training"),
        ("training/phase.py", "from ..serving import app"),
        ("models/local.py", "from p2r.types import Question"),
        ("models/local.py", "from p2r.prompts import PromptPack"),
        ("models/local.py", "import accelerate"),
        ("pipeline.py", "if TYPE_CHECKING:\n    from p2r.types import Sample"),
        ("evaluation/run.py", "from trl import GRPOTrainer"),
        ("images/source.py", "from p2r.cli.console import say"),
        ("report/evaluation.py", "from p2r.serving import app"),
        ("datasets/p2r10k/build.py", "from p2r.training.recipe import Recipe"),
    ],
)
def test_that_test_can_fail_too(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / file).write_text(line + "\n")
    assert violations(tmp_path)


def test_a_cycle_is_found(tmp_path: Path) -> None:
    (tmp_path / "types.py").write_text("if TYPE_CHECKING:\n    from p2r.errors import InputError\n")
    (tmp_path / "errors.py").write_text("def show():\n    from p2r import text\n")
    (tmp_path / "text.py").write_text("")
    assert cycles(tmp_path) == []
    (tmp_path / "text.py").write_text("from p2r.types import Box\n")
    assert cycles(tmp_path) == ["p2r.errors", "p2r.text", "p2r.types"]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("training/phase.py", "from trl import GRPOTrainer"),
        ("cli/answer.py", "from p2r.cli.console import say"),
        ("models/local.py", "from p2r.images import EncodedImage"),
        ("evaluation/run.py", "from p2r.scoring import score"),
        ("report/training.py", "from p2r.training.run_folder import TrainingRun"),
    ],
)
def test_what_is_allowed_passes(tmp_path: Path, file: str, line: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / file).write_text(line + "\n")
    assert violations(tmp_path) == []
