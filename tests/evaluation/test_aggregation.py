"""Every benchmark from its rows to its table, with a scripted model and known figures."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest

from p2r.evaluation.benchmarks import open_benchmark
from p2r.evaluation.paper_results import ROWS, rows_beside
from p2r.evaluation.run import EvaluationPlan, evaluate
from p2r.evaluation.tables import grids, paper_grid
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


def evaluated(benchmark, out, model, modes=("direct",), judge=None):
    plan = EvaluationPlan(benchmark, out / "run", model, judge=judge, modes=modes, settings=SMALL)
    return asyncio.run(evaluate(plan, QUIET))


def run(name, data, out, model, **options):
    benchmark = open_benchmark(name, str(data))
    summary = evaluated(benchmark, out, model, **options)
    found = {grid.title: grid for grid in [*grids(summary, benchmark.layout), paper_grid(summary)]}
    for grid in found.values():
        assert all(len(row) == len(grid.columns) for row in grid.rows)
    return summary.to_json(), found


def test_vstar_by_category(tmp_path):
    _, tables = run("vstar", vstar(tmp_path), tmp_path, always("A"))
    grid = tables["By category"]
    assert grid.columns == ("mode", "Attribute", "Spatial", "Overall")
    assert grid.rows == (("direct", "50.0", "0.0", "33.3"),)


def test_vstar_with_boxes_measures_localization(tmp_path):
    x0, y0, x1, y1 = shot(0).box_px
    found = (1000 * x0 / WIDTH, 1000 * y0 / HEIGHT, 1000 * x1 / WIDTH, 1000 * y1 / HEIGHT)

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
    summary, tables = run("hrbench-4k", hrbench(tmp_path), tmp_path, always("A"))
    figures = summary["modes"]["direct"]
    rotations = figures["breakdowns"]["rotation"]
    assert [rotations[f"cycle_{k}"]["accuracy"] for k in range(4)] == [1.0, 0.0, 0.0, 0.0]
    # The overall figure is the mean over the rotations.
    assert figures["accuracy"] == 0.25
    assert figures["ci95_clustered"] is not None
    assert tables["By category"].columns == ("mode", "FSP", "FCP", "Overall")
    assert tables["By category"].rows == (("direct", "25.0", "25.0", "25.0"),)
    by_rotation = tables["By rotation"]
    assert by_rotation.rows == (("direct", "100.0", "0.0", "0.0", "0.0", "25.0"),)


def test_mme_realworld_by_task_and_domain(tmp_path):
    summary, tables = run("mme-realworld-lite", mme_realworld(tmp_path), tmp_path, always("(E)"))
    grid = tables["By category"]
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

    summary, tables = run(
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
    assert tables["By category"].rows == (("p2r", "100.0", "100.0", "0.0", "0.0", "50.0"),)


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


def test_the_papers_rows_are_shown_for_the_same_model():
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


def test_the_comparison_says_when_the_paper_has_no_row(tmp_path):
    summary = evaluated(open_benchmark("vstar", str(vstar(tmp_path))), tmp_path, always("A"))
    grid = paper_grid(summary)
    assert grid.note == "The paper has no row for always; these are all of its rows."
    assert len(grid.rows) == 1 + len(ROWS)
    same = paper_grid(replace(summary, model="hongxingli/P2R-2B"))
    assert same.rows == (
        ("this run, direct", "33.3", "6.1–79.2"),
        ("paper, Qwen3-VL-2B-Instruct", "74.9", ""),
        ("paper, P2R-2B (P2R + PRA-GRPO)", "84.3", ""),
    )
    assert paper_grid(replace(summary, benchmark="scenes")).note == "The paper has no figure for scenes."
