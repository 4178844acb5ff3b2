"""Third-party clients, in separate environments, against nano (docs/clients.md lists them).

P2R_CLIENTS=env/bin/python:other-env/bin/python P2R_NODE_CLIENTS=node-folder make slow
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import p2r
from p2r.nano import bundled
from tests.serving.live_server import LiveServer

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent / "clients"
IMAGES = Path(p2r.__file__).parent / "demo" / "images"
PYTHONS = [found for found in os.environ.get("P2R_CLIENTS", "").split(os.pathsep) if found]
NODE = os.environ.get("P2R_NODE_CLIENTS", "")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    if "nano" not in bundled():
        pytest.skip("the weights of nano are not here")
    with LiveServer("nano", settings=None) as server:
        yield f"{server.url}/v1"


def results(*command: str) -> dict[str, Any]:
    run = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
    assert run.returncode == 0, run.stderr[-3_000:]
    return json.loads(run.stdout.splitlines()[-1])


def wrong(found: dict[str, Any]) -> dict[str, Any]:
    """The failed checks by name, those of a client's two protocols under the client."""
    bad: dict[str, Any] = {}
    for name, value in found.items():
        if isinstance(value, dict) and name != "json_mode":
            bad |= {f"{name}: {inner}": each for inner, each in wrong(value).items()}
        elif name in ("error", "not one value"):
            if str(value).startswith("not refused"):
                bad[name] = value
        elif value not in _RIGHT.get(name, ("A. 9", "A", "9", True)) and not (
            name in _OF_KIND and isinstance(value, _OF_KIND[name])
        ):
            bad[name] = value
    return bad


_RIGHT = {
    "second turn": ("B. 9",),
    "output_type, second turn": (9,),
    "json_mode": ({"answer": "A. 9"},),
}
# nano is no great reader of sums and codes: the kind is what counts.
_OF_KIND = {"a number": int | str, "int": int, "a text": str, "tool": str, "schema": str}


@pytest.mark.parametrize(
    "python", PYTHONS or [pytest.param("", marks=pytest.mark.skip("P2R_CLIENTS is not set"))]
)
def test_python_clients(url: str, python: str) -> None:
    found = results(python, str(HERE / "ask.py"), url, str(IMAGES))
    assert found
    assert wrong(found) == {}


@pytest.mark.skipif(not NODE, reason="P2R_NODE_CLIENTS is not set")
def test_node_clients(url: str) -> None:
    found = results("node", str(HERE / "ask.mjs"), NODE, url, str(IMAGES))
    assert wrong(found) == {}
