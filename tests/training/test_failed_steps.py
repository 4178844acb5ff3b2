"""A frozen server that fails and recovers: a step without any reward is repeated."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from p2r.training.run_folder import PhaseFolder
from tests import servers

if TYPE_CHECKING:
    from pathlib import Path

    from tests.training.warm import Warm

Small = dict[str, str]
pytestmark = pytest.mark.long

CHANGES = [
    "phases=[{role: perceiver}]",
    "training.steps=2",
    "training.freeze_vision=true",
    # Nothing is rewarded without the server.
    "gates={overlap: null, label: false, malformed: false}",
    "frozen.where=endpoint",
]


@pytest.mark.parametrize("failures", [(0, 1, 1), (0, 1, 1, 2)])
def test_a_step_without_a_reward_stops_the_phase_and_is_done_again(
    warm: Warm, small: Small, tmp_path: Path, failures: tuple[int, ...]
) -> None:
    """The server fails after these numbers of steps: in the first, twice in the second, and in the last."""
    out, steps = tmp_path / "run", failures[-1] + 1
    folder = PhaseFolder(out / "phases/01-perceiver")
    broken: int | None = None

    def behave(_: int) -> servers.Behavior:
        if len(folder.metrics()) == broken:
            return servers.status(400, message="the frozen model is gone")
        return servers.reply("<answer>A</answer>")

    with servers.Server(behave) as server:
        changes = [*CHANGES, f"frozen.url={server.url}#served", f"training.steps={steps}"]
        for broken in failures:
            ended = warm.call("warm.train", recipe=small["recipe"], out=out, changes=changes)
            assert ended.code == 2
            assert (
                "none of the 8 completions of a step has a reward, 8 of them because: served" in ended.errors
            )
            assert "the frozen model is gone" in ended.errors
            assert "Traceback" not in ended.errors
            assert not (out / "model").exists()
            assert folder.state().status == "stopped"
            assert len(folder.metrics()) == broken
        broken = None
        warm.value("warm.train", recipe=small["recipe"], out=out, changes=changes)
    rows = folder.metrics()
    assert [row.step for row in rows] == list(range(1, steps + 1))
    assert all("reward" in row.values for row in rows)
    assert (out / "model/model.safetensors").is_file()
    assert f"| 1 | perceiver | {steps} |" in (out / "model/README.md").read_text()


@pytest.fixture(scope="module")
def without_spread(warm: Warm, small: Small, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose frozen server never answers, and has a password."""
    out = tmp_path_factory.mktemp("without_spread") / "run"
    with servers.Server([servers.reply("nothing")]) as server:
        url = server.url.replace("://", "://user:pass%20word-77@") + "?code=pass%20word-77#served"
        warm.value("warm.train", recipe=small["recipe"], out=out, changes=[*CHANGES, f"frozen.url={url}"])
    sent = {one.headers["authorization"] for one in server.requests}
    assert sent == {"Basic dXNlcjpwYXNzIHdvcmQtNzc="}
    return out


def test_groups_without_spread_are_steps(without_spread: Path) -> None:
    """All rewards are equal: the advantages are zero, and the run ends."""
    rows = PhaseFolder(without_spread / "phases/01-perceiver").metrics()
    assert [(row.values["reward"], row.values["frac_reward_zero_std"]) for row in rows] == [(0, 1)] * 2
    assert (without_spread / "model/model.safetensors").is_file()


def test_the_password_of_a_frozen_server_is_written_nowhere(without_spread: Path) -> None:
    files = [path for path in without_spread.rglob("*") if path.is_file()]
    assert len(files) > 20
    for secret in (b"pass%20word-77", b"pass word-77", b"dXNlcjpwYXNzIHdvcmQtNzc"):
        assert [path.name for path in files if secret in path.read_bytes()] == []


def test_a_run_of_an_older_version_with_a_step_without_a_reward_gets_its_model(
    warm: Warm, small: Small, without_spread: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(without_spread, tmp_path / "run")
    metrics = out / "phases/01-perceiver/metrics.jsonl"
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    for row in rows:
        del row["reward"]
    metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (out / "model/model.safetensors").unlink()
    changes = [*CHANGES, "frozen.url=http://127.0.0.1:1/v1#served"]
    warm.value("warm.train", recipe=small["recipe"], out=out, changes=changes)
    assert (out / "model/model.safetensors").is_file()
    assert "| 1 | perceiver | 2 | – | – |" in (out / "model/README.md").read_text()
