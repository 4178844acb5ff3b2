"""Every benchmark from its rows to its table, with a model whose answers make the figures easy to check."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict

import pytest

from p2r.evaluation.benchmarks import open_benchmark
from p2r.evaluation.paper_results import ROWS, rows_beside
from p2r.evaluation.run import Plan, evaluate
from p2r.evaluation.tables import grids, paper_grid, published_grid
from p2r.settings import PixelBudget, Settings
from p2r.types import Box
from tests.evaluation.releases import (
    HEIGHT,
    WIDTH,
    hrbench,
    mme_realworld,
    shot,
    treebench,
    visualprobe,
    vstar,
    vstar_folder,
    zoombench,
)
from tests.evaluation.scripted import QUIET
from tests.fake_model import FakeModel, said

pytest.importorskip("pyarrow", reason="the eval extra is not installed")

SMALL = Settings(budget=PixelBudget(overview_max_pixels=16_384, crop_max_pixels=16_384))


def always(text):
    return FakeModel(lambda _: text, name="always")


def run(name, data, out, model, modes=("direct",), judge=None):
    benchmark = open_benchmark(name, str(data))
    plan = Plan(benchmark, out / "run", model, judge=judge, modes=modes, settings=SMALL)
    summary = asyncio.run(evaluate(plan, QUIET))
    layout = asdict(benchmark.layout)
    for grid in [*grids(summary, layout), published_grid(summary)]:
        assert all(len(row) == len(grid.columns) for row in grid.rows)
    return summary, layout


def test_vstar_by_category(tmp_path):
    summary, layout = run("vstar", vstar(tmp_path), tmp_path, always("A"))
    grid = paper_grid(summary, layout)
    assert grid.columns == ("mode", "Attribute", "Spatial", "Overall")
    assert grid.rows == (("direct", "50.0", "0.0", "33.3"),)


def test_vstar_with_boxes_knows_where_the_model_looked(tmp_path):
    x0, y0, x1, y1 = shot(0).box_px
    found = [1000 * x0 / WIDTH, 1000 * y0 / HEIGHT, 1000 * x1 / WIDTH, 1000 * y1 / HEIGHT]

    def reply(messages):
        if "bbox_2d" in said(messages):
            return json.dumps([{"bbox_2d": found, "label": "glove"}])
        return "<think>…</think><answer>The material is rubber.</answer>"

    model = FakeModel(reply, name="finder")
    summary, _ = run("vstar-boxes", vstar_folder(tmp_path), tmp_path, model, modes=("p2r",))
    figures = summary["modes"]["p2r"]
    assert figures["accuracy"] == 1.0
    other = shot(1).box_px
    gold = Box(
        other[0] / WIDTH * 1000, other[1] / HEIGHT * 1000, other[2] / WIDTH * 1000, other[3] / HEIGHT * 1000
    )
    expected = (1 + gold.iou(Box(*found))) / 2
    assert figures["localization"]["miou"] == pytest.approx(expected, abs=0.001)


def test_hrbench_by_rotation(tmp_path):
    summary, layout = run("hrbench-4k", hrbench(tmp_path), tmp_path, always("A"))
    figures = summary["modes"]["direct"]
    rotations = figures["breakdowns"]["rotation"]
    assert [rotations[f"cycle_{k}"]["accuracy"] for k in range(4)] == [1.0, 0.0, 0.0, 0.0]
    # The overall figure is the mean over the rotations.
    assert figures["accuracy"] == 0.25
    assert figures["ci95_clustered"] is not None
    assert paper_grid(summary, layout).columns == ("mode", "FSP", "FCP", "Overall")
    assert paper_grid(summary, layout).rows == (("direct", "25.0", "25.0", "25.0"),)
    by_rotation = next(grid for grid in grids(summary, layout) if grid.title == "By rotation")
    assert by_rotation.rows == (("direct", "100.0", "0.0", "0.0", "0.0", "25.0"),)


def test_mme_realworld_by_task_and_domain(tmp_path):
    summary, layout = run("mme-realworld-lite", mme_realworld(tmp_path), tmp_path, always("(E)"))
    grid = paper_grid(summary, layout)
    assert grid.columns == (
        "mode",
        "Perception/OCR with Complex Context",
        "Perception average",
        "Reasoning/Autonomous_Driving",
        "Reasoning average",
        "Overall",
    )
    assert grid.rows == (("direct", "0.0", "0.0", "100.0", "100.0", "50.0"),)
    assert summary["modes"]["direct"]["breakdowns"]["subtask"]["intention"]["correct"] == 2


def test_treebench_accuracy_and_miou(tmp_path):
    def reply(messages):
        if "bbox_2d" in said(messages):
            return json.dumps(
                [{"bbox_2d": [0, 0, 500, 500], "label": "hat"}, {"bbox_2d": [0, 0, 1000, 1000]}]
            )
        return "<think>…</think><answer>F</answer>"

    summary, layout = run(
        "treebench", treebench(tmp_path), tmp_path, FakeModel(reply, name="m"), modes=("p2r",)
    )
    figures = summary["modes"]["p2r"]
    assert (figures["n"], figures["correct"]) == (2, 1)
    golds = []
    for index in range(2):
        x0, y0, x1, y1 = shot(index).box_px
        golds.append(Box(x0 / WIDTH * 1000, y0 / HEIGHT * 1000, x1 / WIDTH * 1000, y1 / HEIGHT * 1000))
    best = [max(gold.iou(Box(0, 0, 500, 500)), gold.iou(Box(0, 0, 1000, 1000))) for gold in golds]
    assert figures["localization"]["miou"] == pytest.approx(sum(best) / 2, abs=1e-6)
    assert figures["localization"]["recall"] == 1.0
    assert figures["split"]["reasoning"] == 1
    assert paper_grid(summary, layout).rows == (("p2r", "100.0", "100.0", "0.0", "0.0", "50.0"),)


def test_visualprobe_is_judged(tmp_path):
    data = visualprobe(tmp_path / "VisualProbe_Hard")
    judge = FakeModel(lambda messages: "No." if '"5"' in said(messages) else "Yes.", name="judge")
    summary, _ = run("visualprobe-hard", data, tmp_path, always("a stop sign"), judge=judge)
    assert len(judge.calls) == 2
    assert summary["modes"]["direct"]["accuracy"] == 0.5
    assert summary["judge"] == "judge"


def test_zoombench_letters_and_numbers(tmp_path):
    def reply(messages):
        return "three" if "windows" in said(messages) else "(b) Blue"

    summary, _ = run("zoombench", zoombench(tmp_path), tmp_path, FakeModel(reply, name="m"))
    assert summary["modes"]["direct"]["accuracy"] == 1.0
    assert set(summary["modes"]["direct"]["categories"]) == {"mcq", "blank"}


def test_the_paper_s_rows_stand_beside_the_same_model():
    assert [row.model for row in rows_beside("hongxingli/P2R-4B")] == ["Qwen3-VL-4B-Instruct", "P2R-4B"]
    assert [row.model for row in rows_beside("http://h/v1#Qwen/Qwen3-VL-32B-Instruct")] == [
        "Qwen3-VL-32B-Instruct"
    ]
    assert rows_beside("nano-base") == ()
    assert rows_beside("P2R-40B") == ()
    by_name = {row.model: row.accuracy for row in ROWS}
    assert by_name["P2R-8B"] == {
        "vstar": 93.7,
        "hrbench-4k": 81.5,
        "hrbench-8k": 82.6,
        "mme-realworld-lite": 57.4,
    }


def test_the_published_grid_says_when_the_paper_has_nothing():
    figures = {"accuracy": 0.5, "ci95": [0.4, 0.6]}
    summary = {"benchmark": "vstar", "model": "nano", "modes": {"p2r": figures}}
    grid = published_grid(summary)
    assert grid.note == "The paper has no row for nano; these are all of its rows."
    assert len(grid.rows) == 1 + len(ROWS)
    same = published_grid({**summary, "model": "hongxingli/P2R-2B"})
    assert same.rows == (
        ("this run, p2r", "50.0", "40.0–60.0"),
        ("paper, Qwen3-VL-2B-Instruct", "74.9", ""),
        ("paper, P2R-2B (P2R + PRA-GRPO)", "84.3", ""),
    )
    assert published_grid({**summary, "benchmark": "scenes"}).note == "The paper has no figure for scenes."
