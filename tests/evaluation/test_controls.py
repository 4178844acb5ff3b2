"""Controls: a model that does not look at its evidence is exposed."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import PIL.Image
import pytest

from p2r.errors import InputError
from p2r.evaluation.benchmarks import open_benchmark
from p2r.evaluation.controls import CONTROLS, WithoutEvidence
from p2r.evaluation.records import AnswerRecord, RunData
from p2r.evaluation.run import EvaluationPlan
from p2r.evaluation.statistics import wilson
from p2r.pipeline import P2R
from p2r.types import Box, Question
from tests.evaluation.scripted import GOLD, number_of
from tests.evaluation.test_run import run, untimed
from tests.fake_model import FakeModel, failure, said, shown

COLORS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))


def write_colored(folder, n, *, images=4):
    """`n` questions for the color of the square at `GOLD` on a gray image: red, green, blue or yellow."""
    folder.mkdir(parents=True)
    for k in range(images):
        pixels = np.full((640, 640, 3), 100 + k, np.uint8)
        pixels[256:320, 256:320] = COLORS[k % 4]
        PIL.Image.fromarray(pixels).save(folder / f"{k}.png")
    rows = [
        {
            "id": f"q{k}",
            "image": f"{k % images}.png",
            "question": f"Which color has number {k}?",
            "choices": ["red", "green", "blue", "yellow"],
            "answer": "ABCD"[k % images % 4],
        }
        for k in range(n)
    ]
    path = folder / "questions.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def perceived(messages):
    return json.dumps([{"bbox_2d": GOLD, "label": "it"}]) if "bbox_2d" in said(messages) else None


def by_crop(messages):
    """Reads the color in the middle of the last crop; A where there is none."""
    if boxes := perceived(messages):
        return boxes
    pixels = shown(messages)[-1].pixels
    middle = pixels[pixels.shape[0] // 2, pixels.shape[1] // 2].astype(int)
    found = [letter for letter, color in zip("ABCD", COLORS, strict=True) if abs(middle - color).max() < 60]
    return f"<think>hm</think><answer>{found[0] if found else 'A'}</answer>"


def by_heart(messages):
    """Does not look at all."""
    return perceived(messages) or f"<think>hm</think><answer>{'ABCD'[number_of(messages) % 4]}</answer>"


@pytest.mark.parametrize("control", CONTROLS)
def test_a_model_that_does_not_look_at_its_crops_is_exposed(tmp_path, control):
    questions = write_colored(tmp_path / "data", 40)
    for name, replies, survived in (("honest", by_crop, 10), ("exposed", by_heart, 40)):
        model = FakeModel(replies, name=name)
        summary = run(questions, tmp_path / name, model, controls=(control,))
        assert summary["modes"]["p2r"]["correct"] == 40
        figures = summary["controls"][control]
        assert (figures["n"], figures["correct"], figures["survived"]) == (40, 40, survived), name
        assert figures["share_survived"] == survived / 40
        assert figures["ci95"] == pytest.approx(wilson(survived, 40), abs=1e-5)
        assert (figures["guessing"], figures["think"], figures["failed"]) == (0.25, None, 0)
        assert summary["complete"]


def test_a_control_asks_about_the_boxes_of_the_plain_run(tmp_path):
    questions = write_colored(tmp_path / "data", 12)
    run(questions, tmp_path / "run", FakeModel(by_crop, name="m"), modes=("p2r", "think"))
    asked = FakeModel(by_crop, name="m")
    summary = run(questions, tmp_path / "run", asked, controls=CONTROLS)
    assert len(asked.calls) == 24, "the perceiver is not asked again"
    assert summary["modes"].keys() == {"p2r", "think"}
    # Mode think sees gray in the middle of the whole image, and says A.
    assert [figures["think"] for figures in summary["controls"].values()] == [0.25, 0.25]
    data = RunData.read(tmp_path / "run")
    for control in CONTROLS:
        records = {record.id: record for record in data.controls[control]}
        for plain in data.answers["p2r"]:
            record = records[plain.id]
            assert isinstance(record, AnswerRecord)
            assert record.prediction.boxes == plain.prediction.boxes
            assert record.prediction.crops_px == plain.prediction.crops_px
    again = FakeModel(by_crop, name="m")
    assert untimed(run(questions, tmp_path / "run", again, controls=CONTROLS)) == untimed(summary)
    assert again.calls == []


def test_questions_without_boxes_are_not_asked_and_failures_are_asked_again(tmp_path):
    def replies(messages, *, broken):
        k = number_of(messages)
        if "bbox_2d" in said(messages):
            return "[]" if k % 3 == 0 else json.dumps([{"bbox_2d": GOLD, "label": "it"}])
        # Black crops, and question 4.
        return failure() if broken and k == 4 and not shown(messages)[-1].pixels.any() else by_crop(messages)

    questions = write_colored(tmp_path / "data", 12)
    first = run(
        questions,
        tmp_path / "run",
        FakeModel(lambda messages: replies(messages, broken=True), name="m"),
        controls=("black-crops",),
    )
    assert (first["controls"]["black-crops"]["n"], first["controls"]["black-crops"]["failed"]) == (7, 1)
    asked = FakeModel(lambda messages: replies(messages, broken=False), name="m")
    second = run(questions, tmp_path / "run", asked, controls=("black-crops",))
    assert (second["controls"]["black-crops"]["n"], second["controls"]["black-crops"]["failed"]) == (8, 0)
    assert len(asked.calls) == 1
    assert second["complete"]


class Seen:
    """A model that keeps the images of its last call."""

    def __init__(self):
        self.model = FakeModel(self.reply, name="m")

    def reply(self, messages):
        self.images = [image.pixels for image in shown(messages)]
        return by_crop(messages)


async def images_with_and_without(image, boxes):
    seen = Seen()
    async with P2R(seen.model) as p2r:
        for pipeline in (p2r, WithoutEvidence(p2r, "black-crops", (), "0:q")):
            await pipeline.predict(Question(image, "Which?", ("a", "b")), boxes=boxes)
            yield seen.images


def test_the_evidence_is_replaced_and_nothing_else(tmp_path):
    write_colored(tmp_path / "data", 4)
    boxes = [Box(400, 400, 500, 500), Box(800, 100, 900, 200)]

    async def both():
        return [images async for images in images_with_and_without(tmp_path / "data" / "1.png", boxes)]

    plain, black = asyncio.run(both())
    assert [one.shape for one in black] == [one.shape for one in plain]
    assert not any(crop.any() for crop in black[1:])
    # What the crops showed is black, apart from the outlines; the rest is as it was.
    changed = (black[0] != plain[0]).any(axis=2)
    side = plain[0].shape[0] / 640
    for x0, y0, x1, y1 in ((192, 192, 384, 384), (448, 0, 640, 192)):
        region = slice(int(y0 * side), int(y1 * side)), slice(int(x0 * side), int(x1 * side))
        outlined = (plain[0] == COLORS[0]).all(axis=2) | (plain[0] == COLORS[1]).all(axis=2)
        assert not black[0][region][~outlined[region]].any()
        changed[region] = False
    assert not changed.any()


def test_foreign_crops_are_seeded_and_from_another_image(tmp_path):
    questions = write_colored(tmp_path / "data", 8)
    seen = []

    def replies(messages):
        if "bbox_2d" not in said(messages) and len(shown(messages)) > 1:
            overview, crop = shown(messages)
            seen.append((number_of(messages), overview.pixels[0, 0].tolist(), crop.pixels.tobytes()))
        return by_crop(messages)

    def crops(out, **options):
        seen.clear()
        run(questions, tmp_path / out, FakeModel(replies, name="m"), controls=("shuffled-crops",), **options)
        return {(k, tuple(corner)): crop for k, corner, crop in sorted(seen)}

    run(questions, tmp_path / "a", FakeModel(by_crop, name="m"))
    first = crops("a")
    for (k, _), crop in first.items():
        pixels = np.frombuffer(crop, np.uint8)
        assert abs(int(np.median(pixels)) - (100 + k % 4)) >= 1, "not from its own image"
    run(questions, tmp_path / "b", FakeModel(by_crop, name="m"))
    assert crops("b") == first
    run(questions, tmp_path / "c", FakeModel(by_crop, name="m"), seed=1)
    assert crops("c", seed=1) != first


def test_what_a_control_needs(tmp_path):
    bench = open_benchmark("jsonl", str(write_colored(tmp_path / "data", 4)))
    with pytest.raises(InputError, match="controls take the evidence from mode p2r"):
        EvaluationPlan(bench, tmp_path / "run", "nano", modes=("think",), controls=("black-crops",))
    with pytest.raises(InputError, match="controls are some of black-crops, shuffled-crops, not no-crops"):
        EvaluationPlan(bench, tmp_path / "run", "nano", controls=("no-crops",))  # type: ignore[arg-type]
    one = write_colored(tmp_path / "one", 4, images=1)
    with pytest.raises(InputError, match="needs questions about two different images or more"):
        run(one, tmp_path / "run", FakeModel(by_crop, name="m"), controls=("shuffled-crops",))
