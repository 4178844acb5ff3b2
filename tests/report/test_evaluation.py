"""The page of an evaluation: content, safety, size, and a real browser without errors."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import PIL.Image
import pytest

from p2r.errors import InputError
from p2r.evaluation.records import RunData
from p2r.report.evaluation import Column, build_page, illustrated
from p2r.types import Score
from tests.evaluation.scripted import model, perception, reply, write_questions
from tests.evaluation.test_run import run
from tests.fake_model import FakeModel, failure, said
from tests.pages import NASTY, chromium


class Reader(HTMLParser):
    """Collects elements, attributes that could load something, and the text of the scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.loads: list[str] = []
        self.scripts: list[str] = []
        self._inside = ""

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self._inside = tag
        self.loads += [value for name, value in attrs if name in ("src", "href", "data") and value]
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data


def read(page):
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


def data_of(page):
    return json.loads(read(page).scripts[0])


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    questions = write_questions(folder / "data", 20)
    opening = {"name": "jsonl", "data": str(questions)}

    def nasty(messages):
        text = said(messages)
        if "bbox_2d" in text and "number 9?" in text:
            return NASTY
        return failure("timeout", f"slow {NASTY}") if "number 8?" in text else reply(messages)

    run(questions, folder / "base", FakeModel(nasty, name="base"), modes=("p2r", "direct"), opening=opening)
    run(questions, folder / "other", model(), modes=("p2r",), opening=opening)
    return folder


def test_the_page_is_one_file_that_loads_nothing(base):
    page = build_page([RunData.read(base / "base")])
    reader = read(page)
    assert set(reader.loads) == {"#questions"}
    assert len(reader.scripts) == 2
    assert "default-src 'none'" in page
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert {"link", "iframe", "img", "object"}.isdisjoint(reader.elements)


def test_texts_of_models_stay_texts(base):
    page = build_page([RunData.read(base / "base")])
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    questions = {question["id"]: question for question in data_of(page)["questions"]}
    assert questions["q9"]["answers"][0]["perception"] == NASTY
    assert NASTY in questions["q8"]["answers"][0]["error"]


def test_every_question_is_shown_with_its_outcome(base):
    data = data_of(build_page([RunData.read(base / "base")]))
    assert data["columns"] == ["p2r", "direct"]
    assert [question["id"] for question in data["questions"]] == [f"q{k}" for k in range(20)]
    outcomes = [question["answers"][0]["outcome"] for question in data["questions"]]
    assert outcomes[8] == "failed"
    assert outcomes[9] == "malformed"
    assert outcomes[:3] == ["reasoning", "correct", "correct"]
    first = data["questions"][1]
    ((index, uri),) = first["images"]
    assert index == 0
    assert uri.startswith("data:image/webp;base64,")
    assert len(first["answers"][0]["crops"]) == 1
    assert first["answers"][0]["crops"][0].startswith("data:image/webp;base64,")
    assert first["answers"][0]["boxes"] == [[*json.loads(perception(1))[0]["bbox_2d"], "it", 0]]
    assert first["goldBoxes"] == [[400, 400, 500, 500, "", 0]]


def test_several_images_are_scored_and_shown_with_their_own_boxes(tmp_path):
    pages = [PIL.Image.new("RGB", size, "gray") for size in ((90, 60), (200, 300), (300, 200))]
    pages[0].save(tmp_path / "photo.png")
    pages[1].save(tmp_path / "scan.tif", save_all=True, append_images=pages[2:])
    gold = [[400, 400, 500, 500], {"box": [100, 100, 200, 200], "image": 2}]
    row = {"images": ["photo.png", "scan.tif"], "question": "How many?", "answer": "7", "boxes": gold}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    found = '[{"bbox_2d": [90, 90, 190, 190], "image": 3}, {"bbox_2d": [1, 1, 9, 9], "image": 2}]'

    def by_script(messages):
        return found if "bbox_2d" in said(messages) else "<think></think><answer>8</answer>"

    opening = {"name": "jsonl", "data": str(tmp_path / "rows.jsonl")}
    run(tmp_path / "rows.jsonl", tmp_path / "run", FakeModel(by_script), modes=("p2r",), opening=opening)
    data = RunData.read(tmp_path / "run")
    (record,) = data.answers["p2r"]
    assert (record.size, record.others) == ((90, 60), ((200, 300), (300, 200)))
    assert [box.image for box in record.gold_boxes or ()] == [0, 2]
    # The second gold box is in a crop; the first, of another image, is not, though a crop lies at its place.
    located = record.localization
    assert located
    assert located.found == (False, True)
    assert located.iou[0] == 0
    (question,) = data_of(build_page([data]))["questions"]
    assert question["count"] == 3
    assert [index for index, uri in question["images"] if uri] == [0, 1, 2]
    assert [box[5] for box in question["answers"][0]["boxes"]] == [2, 1]
    assert all(question["answers"][0]["crops"])


def test_two_runs_side_by_side(base):
    page = build_page([RunData.read(base / "base"), RunData.read(base / "other")])
    data = data_of(page)
    assert data["columns"] == ["base · p2r", "base · direct", "other · p2r"]
    assert data["pairs"] == [[0, 2]]
    assert "other · p2r − base · p2r" in page
    assert "by category" in page


def test_runs_with_different_questions_are_not_compared(base, tmp_path):
    questions = write_questions(tmp_path / "data", 19)
    run(questions, tmp_path / "run", model())
    with pytest.raises(InputError, match="asked different questions"):
        build_page([RunData.read(base / "base"), RunData.read(tmp_path / "run")])


def test_the_page_is_complete_without_the_images(base, tmp_path):
    shutil.copytree(base / "base", tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    config["opening"]["data"] = str(tmp_path / "gone.jsonl")
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    troubles: list[str] = []
    page = build_page([RunData.read(tmp_path / "base")], on_trouble=troubles.append)
    assert "no images: " in troubles[0]
    assert all(question["images"] == [] for question in data_of(page)["questions"])
    moved = build_page([RunData.read(tmp_path / "base")], data=str(base / "data" / "questions.jsonl"))
    assert all(question["images"] for question in data_of(moved)["questions"])


def test_other_questions_in_the_same_place_give_no_images(base, tmp_path):
    questions = write_questions(tmp_path / "data", 20, boxes=False)
    troubles: list[str] = []
    build_page([RunData.read(base / "base")], data=str(questions), on_trouble=troubles.append)
    assert "holds other questions than the run asked" in troubles[0]


def test_a_run_without_answers_has_no_page(base, tmp_path):
    shutil.copy(base / "base" / "config.json", tmp_path)
    with pytest.raises(InputError, match="holds no answers yet"):
        build_page([RunData.read(tmp_path)])


def long_winded(base, tmp_path, n, words):
    """A run of `n` questions whose texts are very long."""
    shutil.copytree(base / "base", tmp_path / "long")
    path = tmp_path / "long" / "predictions-p2r.jsonl"
    line = json.loads(path.read_text().splitlines()[0])
    lines = [json.dumps({**line, "id": f"q{k}", "text": words}) for k in range(n)]
    path.write_text("\n".join(lines) + "\n")
    return RunData.read(tmp_path / "long")


# The budget is of bytes in the file: some characters have three, and `<` is written with six.
@pytest.mark.parametrize("words", ["words ü " * 2_000, "很长的文字" * 3_200, "<" * 16_000])
def test_long_texts_are_cut_to_the_page_s_budget(base, tmp_path, words):
    page = build_page([long_winded(base, tmp_path, 500, words)], on_trouble=lambda _: None)
    assert len(page.encode()) < 4_000_000
    assert data_of(page)["questions"][0]["answers"][0]["text"].endswith(" …")


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(base, browser):
    """A function that opens a page in a theme and width; errors of the browser fail the test."""
    complaints: list[str] = []
    contexts = []

    def open_page(runs, theme="light", width=1280):
        file = base / "page.html"
        file.write_text(build_page([RunData.read(base / name) for name in runs]), encoding="utf-8")
        context = browser.new_context(color_scheme=theme, viewport={"width": width, "height": 900})
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on(
            "request", lambda request: complaints.append(request.url) if request.url[:5] == "http:" else None
        )
        tab.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        tab.goto(file.as_uri())
        return tab

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it(opened, theme, width):
    tab = opened(["base"], theme, width)
    assert tab.locator("h1").inner_text() == "jsonl: base"
    assert tab.locator("#list > li").count() == 20
    background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(246, 247, 249)", "dark": "rgb(14, 16, 20)"}[theme]
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    tab.locator("#list .row").nth(1).click()
    detail = tab.locator(".detail")
    assert detail.locator(".image img").evaluate("image => image.naturalWidth") > 0
    assert detail.locator(".image .gold").count() == 1
    assert detail.locator(".crop img").count() == 1
    detail.get_by_role("tab", name="direct").click()
    assert detail.locator(".crop img").count() == 0


def test_a_browser_filters_and_orders(opened):
    tab = opened(["base", "other"])
    rows, count = tab.locator("#list > li"), tab.locator("#count")
    tab.get_by_label("Outcome of base · p2r").select_option("failed")
    assert (rows.count(), count.inner_text()) == (1, "1 of 20 questions")
    assert NASTY.replace("\u2028", "") not in tab.locator("#list").inner_html()
    tab.get_by_role("button", name="Reset").click()
    tab.wait_for_function("document.querySelectorAll('#list > li').length === 20")
    tab.get_by_role("searchbox").fill("number 17")
    assert rows.count() == 1
    tab.get_by_role("searchbox").fill("")
    tab.get_by_label("Category", exact=True).select_option("odd")
    assert rows.count() == 10
    tab.get_by_label("Category", exact=True).select_option("")
    tab.get_by_label("Order", exact=True).select_option(label="right in other · p2r, not in base · p2r first")
    assert tab.locator(".asked").first.inner_text() == "What is number 8?"


def test_a_browser_remembers_the_theme_and_works_by_keyboard(opened):
    tab = opened(["base"])
    tab.get_by_role("button", name="Dark").click()
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"
    assert tab.get_by_role("button", name="Dark").get_attribute("aria-pressed") == "true"
    tab.locator("#list .row").first.focus()
    tab.keyboard.press("Enter")
    assert tab.locator(".detail").count() == 1
    tab.get_by_role("tab", name="p2r").focus()
    tab.keyboard.press("ArrowRight")
    assert tab.get_by_role("tab", name="direct").get_attribute("aria-selected") == "true"
    tab.get_by_role("button", name="Enlarge the image").click()
    assert tab.locator("dialog[open]").count() == 1
    tab.keyboard.press("Escape")
    assert tab.locator("dialog[open]").count() == 0


def test_of_very_many_questions_those_that_went_wrong_have_images_first(base):
    run = RunData.read(base / "base")
    scores = {f"q{k}": Score(k % 10 != 0, "choice") for k in range(3_000)}
    records = {name: replace(run.answers["p2r"][0], score=score) for name, score in scores.items()}
    column = Column("p2r", run, "p2r", records)
    chosen = illustrated([column], list(records))
    assert len(chosen) == len(set(chosen)) == 400
    assert chosen[:300] == [f"q{k}" for k in range(0, 3_000, 10)]
    assert (chosen[300], chosen[-1]) == ("q1", "q2999")
    assert illustrated([column], ["q0", "q1"]) == ["q0", "q1"]
