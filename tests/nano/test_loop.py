"""An interrupted stage continues to the very weights of an uninterrupted one."""

import json

import torch

from scripts.nano.loop import Schedule, run_stage


class _StopError(Exception):
    pass


def _train(folder, stop_at=None):
    torch.manual_seed(0)
    layer = torch.nn.Linear(4, 1)

    def step(number, rng):
        if number == stop_at:
            raise _StopError
        x = torch.tensor(rng.random((8, 4)), dtype=torch.float32)
        loss = (layer(x) - x.sum(-1, keepdim=True)).square().mean()
        loss.backward()
        return {"loss": loss.item()}

    schedule = Schedule(40, 1e-2, warmup=5, log_every=10, save_every=10)
    try:
        run_stage("line", {"layer": layer}, schedule, step, folder)
    except _StopError:
        return None
    return layer


def test_interrupted_equals_uninterrupted(tmp_path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = _train(tmp_path / "a")
    assert _train(tmp_path / "b", stop_at=27) is None
    continued = _train(tmp_path / "b")
    assert torch.equal(whole.weight, continued.weight)
    rows = [json.loads(line) for line in (tmp_path / "a/log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [10, 20, 30, 40]
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_a_metric_is_averaged_over_the_steps_that_have_it(tmp_path) -> None:
    layer = torch.nn.Linear(1, 1)

    def step(number, _rng):
        layer(torch.ones(1, 1)).sum().backward()
        return {"always": 1.0, "rare": 5.0} if number % 5 == 0 else {"always": 1.0}

    run_stage("s", {"layer": layer}, Schedule(10, 1e-3, warmup=1, log_every=10), step, tmp_path)
    row = json.loads((tmp_path / "log.jsonl").read_text())
    assert (row["always"], row["rare"]) == (1.0, 5.0)


def test_the_rate_warms_up_and_decays() -> None:
    schedule = Schedule(100, 1.0, warmup=10)
    rates = [schedule.at(step) for step in range(100)]
    assert rates[0] == 0.1
    assert max(rates) == rates[10] == 1.0
    assert 0.05 <= rates[-1] < 0.06
