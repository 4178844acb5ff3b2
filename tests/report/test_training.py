"""The page of a training: content, safety, size, and a real browser without errors."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from typer.testing import CliRunner

from p2r.cli import app
from p2r.errors import InputError
from p2r.report.plots import MOST_POINTS, running_mean, thinned
from p2r.report.thumbnails import evenly
from p2r.report.training import build_training_page, chosen_groups
from p2r.training.run_folder import PhaseFolder, TrainingRun
from tests.pages import NASTY, chromium
from tests.report.training_runs import write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("run"), rounds=2, steps=20, done=False)


@pytest.fixture(scope="module")
def page(run):
    return build_training_page(TrainingRun.read(run))


def data_of(page):
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found)


def test_every_phase_is_there_with_its_figures(page):
    for name in ("perceiver 1", "reasoner 1", "perceiver 2", "reasoner 2"):
        assert f"<h3>{name}</h3>" in page
    assert "10 of 20 steps (running)" in page
    assert "3 of 4 phases done" in page
    assert data_of(page)["bands"] == [[0, 20], [20, 40], [40, 60], [60, 80]]


def test_curves_show_what_was_logged(page, run):
    data = data_of(page)
    rows = [json.loads(line) for line in (run / "phases/01-perceiver/metrics.jsonl").read_text().splitlines()]
    reward = data["curves"][0][0]
    assert reward["label"] == "reward"
    assert len(reward["values"]) == 70
    assert reward["values"]["3"] == f"{100 * rows[2]['reward']:.1f} %"
    assert "Evidence recall" in page
    assert re.search(r"recall, perceiver 1: [\d.]+ → [\d.]+ %", page)
    titles = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert len(titles) == len(data["curves"]) == 16


def test_a_scale_has_room_for_its_longest_label(page):
    scales = re.findall(r'class="scale" style="width: (\d+)ch" aria-hidden="true">(.*?)</div>', page)
    longest = [max(map(len, re.findall(r">([^<]+)</span>", labels))) for _, labels in scales]
    assert max(longest) >= len("100 %")
    assert [int(width) for width, _ in scales] == longest


def test_a_recipe_with_a_key_that_is_gone_is_shown_and_the_key_named(tmp_path):
    folder = write_run(tmp_path / "run", steps=3, scenes=2)
    recipe = folder / "recipe.yaml"
    recipe.write_text(recipe.read_text() + "sharding: none\n")
    done = CliRunner().invoke(app, ["report", str(folder)])
    assert done.exit_code == 0, done.output
    assert "sharding is no longer a key" in " ".join(done.stderr.split())
    assert (folder / "report.html").is_file()


def test_a_metric_that_was_not_logged_has_no_plot(tmp_path):
    folder = write_run(tmp_path / "run", steps=3, scenes=2)
    for path in folder.glob("phases/*/metrics.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        kept = [{key: value for key, value in line.items() if key not in ("recall", "kl")} for line in lines]
        path.write_text("".join(json.dumps(line) + "\n" for line in kept))
    page = build_training_page(TrainingRun.read(folder))
    assert "Evidence recall" not in page
    assert "KL divergence" not in page
    assert "Reward, mean" in page


def test_groups_are_whole_and_from_all_of_a_phase(page):
    data = data_of(page)
    steps = {group["step"] for group in data["groups"] if group["phase"] == 0}
    assert {1, 20} <= steps
    assert all(len(group["rollouts"]) == 4 for group in data["groups"])
    assert {group["phase"] for group in data["groups"]} == {0, 1, 2, 3}
    assert set(data["images"]) == {group["id"] for group in data["groups"]}
    failed = data["groups"][0]["rollouts"][3]
    assert failed["reward"] is None
    assert NASTY in failed["error"]


def test_texts_of_models_stay_texts(page):
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "default-src 'none'" in page
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)


def test_groups_whose_rewards_differ_come_first(tmp_path):
    rows = [
        {"step": step, "group": group, "role": "think", "id": "x", "reward": float(group == 2 and k == 0)}
        for step in (1, 2, 3) for group in range(4) for k in range(2)
    ]  # fmt: skip
    path, phase = tmp_path / "rollouts.jsonl", PhaseFolder(tmp_path)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 9, "gro')
    assert [(group[0].step, group[0].group) for group in chosen_groups(phase, 2)] == [(1, 2), (3, 2)]
    assert len(chosen_groups(phase, 99)) == 12
    assert chosen_groups(PhaseFolder(tmp_path / "none"), 5) == []


def test_steps_are_taken_evenly():
    assert evenly(range(1, 102), 3) == [1, 51, 101]
    assert evenly([4, 5], 3) == [4, 5]
    assert evenly([4, 5, 6], 1) == [6]


def test_long_curves_are_averaged():
    points = [(step, float(step % 2)) for step in range(1, 3_001)]
    assert len(thinned(points)) <= MOST_POINTS
    assert {round(value, 3) for _, value in thinned(points)} == {0.5}
    assert running_mean(points[:10]) == points[:10]
    middle = running_mean(points)[1_500][1]
    assert 0.4 < middle < 0.6


def test_the_page_is_complete_without_the_samples(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("scenes"))
    (folder / "data.json").write_text(json.dumps({"source": str(tmp_path / "gone.jsonl"), "samples": 6}))
    troubles: list[str] = []
    page = build_training_page(TrainingRun.read(folder), on_trouble=troubles.append)
    assert "no questions and images beside the rollouts: " in troubles[0]
    assert data_of(page)["images"] == {}
    moved = build_training_page(TrainingRun.read(folder), data=str(run / "scenes/samples.jsonl"))
    assert len(data_of(moved)["images"]) == 6


def test_a_run_without_a_step_has_no_page(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("phases", "scenes"))
    with pytest.raises(InputError, match="no step is done yet"):
        build_training_page(TrainingRun.read(folder))


def test_the_command(run, tmp_path):
    out = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["report", str(run), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "nano-pra: training" in out.read_text()
    two = CliRunner().invoke(app, ["report", str(run), str(run)])
    assert two.exit_code == 2
    assert "is a training run; only evaluation runs can be compared" in two.stderr


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.mark.long
@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 390)])
def test_a_browser_shows_it(browser, page, tmp_path, theme, width):
    file = tmp_path / "page.html"
    file.write_text(page, encoding="utf-8")
    complaints: list[str] = []
    context = browser.new_context(color_scheme=theme, viewport={"width": width, "height": 900})
    tab = context.new_page()
    tab.on("console", lambda message: complaints.append(message.text))
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
    tab.goto(file.as_uri())
    assert tab.locator("h1").inner_text() == "nano-pra: training"
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    tab.locator(".curve .plot").first.hover()
    assert re.match(r"step \d+ of \w+ \d: reward", tab.locator(".readout").first.inner_text())
    tab.get_by_label("Rewards", exact=True).select_option("failed")
    assert tab.locator("#list > li").count() == 4
    row = tab.locator("#list .row").first
    row.focus()
    tab.keyboard.press("Enter")
    group = tab.locator(".group")
    assert group.locator(".rollout").count() == 4
    assert group.locator(".rollout .image .gold").count() >= 4
    assert group.locator(".image img").first.evaluate("image => image.naturalWidth") > 0
    assert "alert(1)" in group.locator(".trouble").inner_text()
    tab.get_by_label("Phase", exact=True).select_option("1")
    tab.locator("#list .row").first.click()
    assert tab.locator(".group .shared .image").count() == 1
    assert tab.locator(".group .rollout .image").count() == 0
    context.close()
    assert complaints == []
