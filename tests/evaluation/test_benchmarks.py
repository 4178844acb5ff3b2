"""Every benchmark loads in the schema of its release, and errors name the unexpected column."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from p2r.datasets.tables import text_rows
from p2r.errors import InputError
from p2r.evaluation.benchmarks import BENCHMARKS, open_benchmark
from p2r.evaluation.benchmarks.base import Entry, select
from p2r.images import ImageSource
from tests.evaluation.releases import (
    HEIGHT,
    WIDTH,
    hrbench,
    hrbench_tsv,
    mme_realworld,
    shot,
    treebench,
    visualprobe,
    vstar,
    vstar_folder,
    write_parquet,
    write_tsv,
    zoombench,
)

pytest.importorskip("pyarrow", reason="the eval extra is not installed")


def loaded(benchmark):
    """Pairs of entries and samples; both passes must have the same questions."""
    entries = list(benchmark.entries())
    samples = [load() for load in benchmark.loaders()]
    assert len(entries) == len(samples)
    for entry, sample in zip(entries, samples, strict=True):
        assert entry.sample.question.image == b""
        assert entry.sample.question.text == sample.question.text
        assert entry.sample.question.choices == sample.question.choices
        assert entry.sample.answer == sample.answer
    return entries, samples


def assert_shows(sample, index):
    source = ImageSource.open(sample.question.image)
    assert source.size == (WIDTH, HEIGHT)
    expected = ImageSource.open(shot(index).jpeg).overview((64, 36))
    assert (source.overview((64, 36)).pixels == expected.pixels).all()


def assert_gold(sample, index):
    x0, y0, x1, y1 = shot(index).box_px
    expected = (1000 * x0 / WIDTH, 1000 * y0 / HEIGHT, 1000 * x1 / WIDTH, 1000 * y1 / HEIGHT)
    assert len(sample.boxes) == 1
    assert sample.boxes[0].as_tuple() == pytest.approx(expected)


def test_vstar(tmp_path):
    benchmark = open_benchmark("vstar", str(vstar(tmp_path)))
    _, samples = loaded(benchmark)
    glove, flag, dog = samples
    assert glove.question.text == "What is the material of the glove?"
    assert glove.question.choices == ("rubber", "cotton", "kevlar", "leather")
    assert (glove.answer, flag.answer, dog.answer) == ("A", "C", "B")
    assert dog.question.choices == ("right", "left")
    assert [s.category for s in samples] == ["direct_attributes"] * 2 + ["relative_position"]
    assert not benchmark.has_boxes
    for index, sample in enumerate(samples):
        assert_shows(sample, index)


def test_repeated_ids_get_a_number(tmp_path):
    selection = select(open_benchmark("vstar", str(vstar(tmp_path))))
    assert [entry.id for entry in selection.entries.values()] == ["0", "1", "1#2"]


def test_vstar_with_boxes(tmp_path):
    root = vstar_folder(tmp_path)
    benchmark = open_benchmark("vstar-boxes", str(root), seed=3)
    _, samples = loaded(benchmark)
    assert [s.question.id for s in samples] == ["direct_attributes/sa_1", "relative_position/sa_2"]
    for index, sample in enumerate(samples):
        right = sample.question.choices["ABCD".index(sample.answer)]
        assert right == "The material is rubber."
        assert_gold(sample, index)
        assert_shows(sample, index)


def test_vstar_options_are_shuffled_by_the_seed_and_by_the_question(tmp_path):
    root = vstar_folder(tmp_path)

    def answers(seed):
        entries = open_benchmark("vstar-boxes", str(root), seed=seed).entries()
        return [entry.sample.answer for entry in entries if isinstance(entry, Entry)]

    assert answers(5) == answers(5)
    assert {letter for seed in range(20) for letter in answers(seed)} == set("ABCD")


@pytest.mark.parametrize("size", ["4k", "8k"])
def test_hrbench(tmp_path, size):
    entries, samples = loaded(open_benchmark(f"hrbench-{size}", str(hrbench(tmp_path, size))))
    assert [entry.tags["rotation"] for entry in entries] == [f"cycle_{k // 2}" for k in range(8)]
    assert len({entry.tags["cluster"] for entry in entries}) == 2
    bus = samples[0]
    assert bus.question.choices == ("007", "NA", "12", "1.10")
    assert [s.category for s in samples[:2]] == ["single", "cross"]
    for sample in samples[::2]:
        assert sample.question.choices["ABCD".index(sample.answer)] == "007"
    for index, sample in enumerate(samples):
        assert_shows(sample, index % 2)


@pytest.mark.parametrize("by_image", [True, False])
def test_a_cluster_of_hrbench_is_an_image(tmp_path, by_image):
    """The same question about several images is not a rotation."""
    options = ["left", "right", "above", "below"]
    images = [("Where is the cat?", options), ("Where is the cat?", options), ("Where is the dog?", options)]
    images += [("Where is the cat?", ["right", "left", "above", "below"])]  # another answer
    images += [("Which one?", ["same", "same", "other", "", ""][:4])]
    rows: list[dict[str, Any]] = []
    for image, (question, found) in enumerate(images):
        for rotation in range(4):
            turned = found[rotation:] + found[:rotation]
            row = {
                "index": 0,
                "question": question,
                "answer": "ABCD"[turned.index(found[0])],
                "category": "single",
            }
            row |= {**dict(zip("ABCD", turned, strict=True)), "cycle_category": rotation, "image": str(image)}
            rows.append(row)
    if not by_image:
        rows.sort(key=lambda row: row["cycle_category"])
    for index, row in enumerate(rows):
        row["index"] = index
    write_tsv(tmp_path / "hr_bench_4k.tsv", rows)
    benchmark = open_benchmark("hrbench-4k", str(tmp_path))
    for _ in range(2):  # each pass finds the same
        clusters: dict[str, set[str]] = {}
        for entry, row in zip(benchmark.entries(), rows, strict=True):
            assert isinstance(entry, Entry)
            clusters.setdefault(entry.tags["cluster"], set()).add(str(row["image"]))
        assert sorted(clusters.values(), key=min) == [{"0"}, {"1"}, {"2"}, {"3"}, {"4"}]


def test_text_tables_are_read_as_they_are_written(tmp_path):
    _, samples = loaded(open_benchmark("hrbench-4k", str(hrbench_tsv(tmp_path))))
    assert samples[0].question.choices == ("007", "NA", "12", "1.10")
    assert_shows(samples[1], 1)


def test_mme_realworld(tmp_path):
    entries, samples = loaded(open_benchmark("mme-realworld-lite", str(mme_realworld(tmp_path))))
    assert [s.answer for s in samples] == ["B", "E", "B", "E"]
    assert samples[0].question.choices[0] == "12"
    assert samples[0].question.choices[4] == "The image does not feature the number."
    assert entries[1].tags == {"task": "Reasoning", "subtask": "intention"}
    assert samples[0].category == "Perception/OCR with Complex Context"
    assert_shows(samples[3], 3)


def test_treebench(tmp_path):
    benchmark = open_benchmark("treebench", str(treebench(tmp_path)))
    entries, samples = loaded(benchmark)
    assert [s.answer for s in samples] == ["A", "F"]
    assert samples[1].question.choices == ("red", "green", "blue", "none", "white", "black")
    assert entries[0].tags["task"] == "Reasoning"
    assert benchmark.has_boxes
    for index, sample in enumerate(samples):
        assert_gold(sample, index)
        assert_shows(sample, index)


def test_visualprobe(tmp_path):
    _, samples = loaded(open_benchmark("visualprobe-hard", str(visualprobe(tmp_path / "VisualProbe_Hard"))))
    assert [s.question.text for s in samples] == ["What does the sign say?"] * 2
    assert [s.answer for s in samples] == ["STOP", "5"]
    assert samples[0].question.answer_type == "free"
    assert_shows(samples[1], 1)


def test_zoombench(tmp_path):
    _, samples = loaded(open_benchmark("zoombench", str(zoombench(tmp_path))))
    hat, windows = samples
    assert hat.question.text == "What color is the hat?"
    assert hat.question.choices == ("Red", "Blue", "Green", "White")
    assert (hat.answer, windows.answer) == ("B", "3")
    assert windows.question.answer_type == "number"
    for index, sample in enumerate(samples):
        assert_gold(sample, index)
        assert_shows(sample, index)


def test_generated_scenes_draw_nothing_before_their_turn():
    benchmark = open_benchmark("scenes", size="320x256", count=6, seed=9)
    _, samples = loaded(benchmark)
    assert len({s.question.id for s in samples}) == 6
    assert all(s.boxes is not None for s in samples)
    assert ImageSource.open(samples[0].question.image).size == (320, 256)


def test_unknown_names_and_places():
    with pytest.raises(InputError, match=r"unknown benchmark 'vstars': one of scenes, vstar"):
        open_benchmark("vstars")
    with pytest.raises(InputError, match="no such file or folder, and not a hub id"):
        open_benchmark("vstar", "no/such/folder")
    with pytest.raises(InputError, match="needs --data"):
        open_benchmark("jsonl")
    assert len(set(BENCHMARKS)) == len(BENCHMARKS)


def test_a_folder_without_data_says_what_it_holds(tmp_path):
    (tmp_path / "readme.md").write_text("hello")
    with pytest.raises(InputError, match=r"no file matches .*parquet.* found: readme.md"):
        open_benchmark("vstar", str(tmp_path))


def test_a_missing_column_is_named_with_those_found(tmp_path):
    write_parquet(tmp_path / "x.parquet", [{"image": "", "text": "q", "answer": "A"}])
    with pytest.raises(
        InputError, match=re.escape("row 1: column 'label' is missing; found: 'text', 'answer'")
    ):
        list(open_benchmark("vstar", str(tmp_path)).entries())


def rewritten_treebench(root, **cells):
    row = {
        "index": 0,
        "image": shot(0).base64,
        "question": "Which?",
        "multi-choice options": "A. red\nB. green",
        "answer": "A",
        "category": "Perception/OCR",
        "target_instances": "[[1, 2, 30, 40]]",
    }
    write_tsv(root / "TreeBench.tsv", [{**row, **cells}])
    return open_benchmark("treebench", str(root))


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"answer": "F"}, "column 'answer': expected one of the letters A–B, found 'F'"),
        ({"question": ""}, "column 'question': expected a text, found ''"),
        ({"multi-choice options": "A. only"}, "column 'multi-choice options': expected two or more options"),
    ],
)
def test_data_without_one_readable_row_is_refused(tmp_path, cells, message):
    shown = f"holds no questions: none of the 1 rows can be read, for example row 1: {message}"
    with pytest.raises(InputError, match=re.escape(shown)):
        select(rewritten_treebench(tmp_path, **cells))


def test_rows_of_treebench_are_read_or_unreadable(tmp_path):
    """The odd rows that the release holds."""
    row = next(iter(text_rows(treebench(tmp_path) / "TreeBench.tsv")))
    assert isinstance(row, dict)
    cells = [
        ("A Cast iron\nB Polished steel\nC Painted wood", "C"),
        ("A. Bright gold B. Matte black", "B"),
        ("A. red\nB. blue", "D"),
        ("A. red\nB. blue\nB. green\nD. white", "B"),
        ("A. red\nB. red\nC. blue", "C"),
        ("", "A"),
    ]
    rows = [
        {**row, "index": index, "multi-choice options": found, "answer": answer}
        for index, (found, answer) in enumerate(cells)
    ]
    write_tsv(tmp_path / "odd.tsv", rows)
    selection = select(open_benchmark("treebench", str(tmp_path / "odd.tsv")))
    samples = [entry.sample for entry in selection.entries.values()]
    assert [sample.question.id for sample in samples] == ["0", "1", "4"]
    assert samples[0].question.choices == ("Cast iron", "Polished steel", "Painted wood")
    assert samples[1].question.choices == ("Bright gold", "Matte black")
    assert [sample.answer for sample in samples] == ["C", "B", "C"]
    assert [unreadable.row for unreadable in selection.unreadable] == ["row 3", "row 4", "row 6"]
    assert "expected one of the letters A–B, found 'D'" in selection.unreadable[0].reason
    assert "expected two or more options" in selection.unreadable[1].reason
    assert selection.total == 6
    # What is asked has the images of its own rows.
    tasks = selection.tasks(skip=lambda name: name != "4")
    assert [load().question.id for _, load in tasks] == ["4"]


def test_a_folder_of_vstar_with_an_odd_file(tmp_path):
    root = vstar_folder(tmp_path)
    (root / "direct_attributes" / "sa_9.json").write_text(
        '{"target_object": ["x"], "bbox": [], "question": "?"}'
    )
    selection = select(open_benchmark("vstar-boxes", str(root)))
    assert len(selection.entries) == 2
    (odd,) = selection.unreadable
    assert odd.row == "direct_attributes/sa_9.json"
    assert "column 'options' is missing" in odd.reason


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"image": "not base64!"}, "column 'image': no image 'not base64!'"),
        ({"image": "aGVsbG8="}, "row 1: "),
        ({"target_instances": "[1, 2"}, "column 'target_instances': expected the literal of a list"),
        ({"target_instances": "[[1, 2, 'x', 4]]"}, "column 'target_instances': expected four numbers"),
    ],
)
def test_a_broken_image_or_box_fails_its_own_question_only(tmp_path, cells, message):
    benchmark = rewritten_treebench(tmp_path, **cells)
    assert select(benchmark).total == 1
    (load,) = benchmark.loaders()
    with pytest.raises(InputError, match=re.escape(message)):
        load()


def test_gold_boxes_are_put_in_order_and_clamped(tmp_path):
    boxes = [[WIDTH / 2, HEIGHT, 0, 0], [-50, 0, 64, 36], [5, 5, 5, 9], [900, 1, 950, 2]]
    (load,) = rewritten_treebench(tmp_path, target_instances=str(boxes)).loaders()
    assert [box.as_tuple() for box in load().boxes] == [(0, 0, 500, 1000), (0, 0, 100, 100)]


def test_a_limit_chooses_by_id_and_seed_and_a_larger_one_adds(tmp_path):
    rows = [
        {"id": str(k), "question": f"q{k}", "image": "x.png", "answer": "1", "answer_type": "free"}
        for k in range(40)
    ]
    (tmp_path / "x.png").write_bytes(b"only looked at when a question is asked")
    file = tmp_path / "own.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    benchmark = open_benchmark("jsonl", str(file))

    def chosen(limit, seed=0):
        return [entry.id for entry in select(benchmark, limit=limit, seed=seed).entries.values()]

    assert chosen(None) == [str(k) for k in range(40)]
    assert len(chosen(10)) == 10
    assert set(chosen(10)) < set(chosen(20))
    assert chosen(10) == sorted(chosen(10), key=int)
    assert chosen(10) != chosen(10, seed=1)
    assert select(benchmark, limit=10).fingerprint == select(benchmark).fingerprint


def test_the_fingerprint_sees_a_changed_answer(tmp_path):
    first = select(rewritten_treebench(tmp_path)).fingerprint
    assert select(rewritten_treebench(tmp_path)).fingerprint == first
    assert select(rewritten_treebench(tmp_path, answer="B")).fingerprint != first


def test_an_empty_benchmark_is_refused(tmp_path):
    (tmp_path / "val.json").write_text("[]")
    with pytest.raises(InputError, match="holds no questions"):
        select(open_benchmark("visualprobe-easy", str(tmp_path)))
