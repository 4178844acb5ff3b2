"""The wheel without extras: every command that needs one names it in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCENE = ROOT / "src/p2r/demo/images/1-read.jpg"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def p2r(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, installed from a wheel with nothing but what the wheel needs."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed")
    folder = tmp_path_factory.mktemp("bare")
    python = folder / "env/bin/python"
    for command in (
        [uv, "build", "--wheel", "--quiet", "--out-dir", str(folder), str(ROOT)],
        [uv, "venv", "--quiet", "--python", sys.executable, str(folder / "env")],
    ):
        subprocess.run(command, check=True, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    # PyYAML comes with many packages; it is no sign that the extra `train` is there.
    install = [uv, "pip", "install", "--quiet", "--python", str(python), str(wheel), "pyyaml"]
    if subprocess.run(install, check=False, cwd=folder).returncode:
        pytest.skip("no package index")
    return folder / "env/bin/p2r"


def run(p2r: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [str(p2r), *map(str, arguments)]
    return subprocess.run(command, cwd=p2r.parent, capture_output=True, text=True, check=False, timeout=120)


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
