"""The wheel as a user installs it: without extras commands name what they need; with them the demo runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCENE = ROOT / "src/p2r/demo/images/1-read.jpg"
MAX_BYTES = 75_000_000

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def uv() -> str:
    found = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if found is None:
        pytest.skip("uv is not installed")
    return found


@pytest.fixture(scope="module")
def wheel(uv: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the sdist, so that a file that only the clone has is missed."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([uv, "build", "--quiet", "--out-dir", str(folder), str(ROOT)], check=True, cwd=folder)
    assert len(list(folder.glob("*.tar.gz"))) == 1
    (built,) = folder.glob("*.whl")
    return built


def install(uv: str, folder: Path, *packages: str) -> Path:
    """A new environment with these packages, at the tested versions; its command `p2r`."""
    python = folder / "env/bin/python"
    constraints = str(ROOT / "constraints.txt")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(folder / "env")], check=True)
    command = [uv, "pip", "install", "--quiet", "--python", str(python), "--constraint", constraints]
    if subprocess.run([*command, *packages], check=False, cwd=folder).returncode:
        pytest.skip("no package index")
    return folder / "env/bin/p2r"


@pytest.fixture(scope="module")
def p2r(uv: str, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, installed from a wheel with nothing but what the wheel needs."""
    # PyYAML comes with many packages; it is no sign that the extra `train` is there.
    return install(uv, tmp_path_factory.mktemp("bare"), str(wheel), "pyyaml")


def run(p2r: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(p2r), *map(str, arguments)]
    return subprocess.run(command, cwd=p2r.parent, capture_output=True, text=True, check=False, timeout=300)


def test_the_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < MAX_BYTES


@pytest.mark.parametrize("extra", ["local", "all"])
def test_the_demo_runs_from_the_wheel(uv: str, wheel: Path, tmp_path: Path, extra: str) -> None:
    p2r = install(uv, tmp_path, f"{wheel}[{extra}]")
    ended = run(p2r, "demo", "--out", "demo")
    assert ended.returncode == 0, ended.stderr
    assert " of 8 right; " in ended.stdout
    assert len(list((p2r.parent / "demo").glob("*.png"))) == 8
    if extra == "all":
        assert "frozen" in run(p2r, "train", "nano-smoke", "--show").stdout


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["answer", SCENE, "Which digit is on the red tag?"], "local"),
        (["demo", "--out", "demo"], "local"),
        (["eval", "--benchmark", "scenes", "--out", "eval", "--limit", "1"], "local"),
        (["eval", "--benchmark", "vstar", "--out", "vstar"], "eval"),
        (["serve"], "serve"),
        (["train", "nano-smoke", "--check"], "train"),
        (["train", "nano-smoke", "--out", "run"], "train"),
        (["data", "zwz", "data"], "eval"),
    ],
)
def test_a_command_names_the_extra_that_it_needs(p2r: Path, arguments: list[object], extra: str) -> None:
    ended = run(p2r, *arguments)
    assert ended.returncode == 2
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert last.endswith(f"is not installed: pip install 'perceive-to-reason[{extra}]'")
    assert "Traceback" not in ended.stderr


def test_what_needs_no_extra_works(p2r: Path) -> None:
    assert run(p2r, "scenes", "made", "--n", 1, "--size", "512x512").returncode == 0


def test_doctor_reports_what_cannot_run(p2r: Path) -> None:
    ended = run(p2r, "doctor", "--json")
    found = {finding["name"]: finding for finding in json.loads(ended.stdout)["findings"]}
    assert ended.returncode == 0
    assert found["core"]["state"] == "ok"
    assert found["bundled"]["state"] == "warning"
    assert found["bundled"]["detail"].startswith("nano, nano-base: cannot run here, ")
    assert "torch, torchvision, transformers" in found["bundled"]["detail"]
    assert found["bundled"]["hint"] == "pip install 'perceive-to-reason[local]'"
    asked = run(p2r, "doctor", "--model", "nano")
    assert asked.returncode == 3
    assert "✗ nano opens  torch is not installed" in asked.stdout
