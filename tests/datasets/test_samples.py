"""Samples from a JSON-lines file, and errors that name the line and the key."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from p2r.datasets.samples import read_samples, to_dataset
from p2r.errors import InputError
from p2r.scenes import write_scenes
from p2r.types import Box, Sample


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with `images/1.jpg` for the rows."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "1.jpg").touch()
    return tmp_path


ROW = {"image": "images/1.jpg", "question": "Which color?", "answer": "red"}


def write(folder: Path, *rows: object) -> Path:
    """A samples file: dicts as JSON, texts as they are."""
    path = folder / "samples.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def read_one(folder: Path, **more: Any) -> Sample:
    (sample,) = read_samples(write(folder, ROW | more))
    return sample


def test_a_full_row(folder: Path) -> None:
    sample = read_one(
        folder,
        id="test-0-7",
        choices=["red", "blue"],
        answer_type="choice",
        answer="B",
        boxes=[[10, 20, 30.5, 40]],
        family="read",
        aliases=["azure"],
    )
    assert sample.question.image == str(folder / "images" / "1.jpg")
    assert (sample.question.id, sample.question.text) == ("test-0-7", "Which color?")
    assert (sample.question.choices, sample.question.answer_type) == (("red", "blue"), "choice")
    assert (sample.answer, sample.category, sample.aliases) == ("B", "read", ("azure",))
    assert sample.boxes == (Box(10, 20, 30.5, 40),)


def test_a_row_needs_image_question_and_answer_only(folder: Path) -> None:
    sample = read_one(folder)
    assert (sample.question.id, sample.question.answer_type, sample.question.choices) == ("1", "free", ())
    assert (sample.answer, sample.boxes, sample.category, sample.aliases) == ("red", None, "", ())


def test_the_row_of_the_guide_is_valid(folder: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    row = guide.partition("```json\n")[2].partition("```")[0].replace("\n", " ")
    (folder / "images/zwz").mkdir()
    (folder / "images/zwz/3f….jpg").touch()
    (sample,) = read_samples(write(folder, row))
    assert (sample.answer, len(sample.question.choices), sample.category) == ("C", 4, "zwz")


def test_null_and_an_empty_list_of_boxes_differ(folder: Path) -> None:
    assert read_one(folder, boxes=None).boxes is None  # unknown
    assert read_one(folder, boxes=[]).boxes == ()  # the whole image
    assert read_one(folder, choices=None, answer_type=None, family=None, aliases=None).boxes is None


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        *[
            ("12", "number"),
            (12, "number"),
            (-1.5, "number"),
            ("1,234", "number"),
            ("50%", "number"),
            ("$5", "number"),
        ],
        *[
            ("1/2", "number"),
            ("12 cm", "number"),
            ("red", "free"),
            ("007", "free"),
            ("1e5", "free"),
            ("K7", "free"),
        ],
        *[("12 apples", "free"), ("twelve", "free"), ("3-5", "free"), ("10:30", "free"), ("A 12", "free")],
    ],
)
def test_the_answer_type_follows_from_the_answer(folder: Path, answer: object, kind: str) -> None:
    sample = read_one(folder, answer=answer)
    assert (sample.question.answer_type, sample.answer) == (kind, str(answer))


def test_a_stated_answer_type_is_kept(folder: Path) -> None:
    assert read_one(folder, answer="12", answer_type="free").question.answer_type == "free"
    assert read_one(folder, answer="a dozen", answer_type="number").question.answer_type == "number"


@pytest.mark.parametrize("answer", ["B", "b", "(B)", "blue", "Blue.", "B. blue"])
def test_a_choice_may_be_given_by_letter_or_text(folder: Path, answer: str) -> None:
    assert read_one(folder, choices=["red", "blue"], answer=answer).answer == "B"


def test_numbers_may_be_choices(folder: Path) -> None:
    sample = read_one(folder, choices=[3, 13], answer=13)
    assert (sample.question.choices, sample.answer) == (("3", "13"), "B")


def test_blank_lines_byte_order_marks_and_other_keys_are_left_alone(folder: Path) -> None:
    path = write(folder, "\ufeff" + json.dumps(ROW | {"source": "web", "image_size": [1, 2]}), "", ROW, "  ")
    assert [sample.question.id for sample in read_samples(path)] == ["1", "3"]


def test_a_row_may_have_several_images_and_boxes_in_each(folder: Path) -> None:
    (folder / "images" / "2.jpg").touch()
    boxes = [[1, 2, 30, 40], {"box": [5, 6, 70, 80], "image": 1}]
    images = ["images/1.jpg", "images/2.jpg#page=1"]
    sample = read_one(folder, image=None, images=images, boxes=boxes)
    assert sample.question.images == tuple(str(folder / image) for image in images)
    assert sample.boxes == (Box(1, 2, 30, 40), Box(5, 6, 70, 80, image=1))
    with pytest.raises(InputError, match=r"boxes.0: a box has 4 numbers, not 0"):
        read_one(folder, boxes=[{"image": 1}])
    with pytest.raises(InputError, match=r"boxes.0: .* of image -1"):
        read_one(folder, boxes=[{"box": [1, 2, 30, 40], "image": -1}])
    with pytest.raises(InputError, match="one of image and images"):
        read_one(folder, images=["images/1.jpg"])
    with pytest.raises(InputError, match="no image"):
        read_one(folder, image=None, images=[])


def test_images_may_be_data_uris_or_absolute(folder: Path) -> None:
    uri = "data:image/png;base64,AAAA"
    assert read_one(folder, image=uri).question.image == uri
    absolute = str(folder / "images" / "1.jpg")
    assert read_one(folder, image=absolute).question.image == absolute


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "an object is needed, not list"),
        ('{"a": ' * 100_000, "not JSON"),
        ('{"image": "images/1.jpg", "question": "q", "answer": ' + "9" * 5_000 + "}", "not JSON"),
        ({"question": "q", "answer": "red"}, "image: one of image and images is needed"),
        ({"image": "images/1.jpg", "answer": "red"}, "question: Field required"),
        (
            {"image": "images/1.jpg", "question": "q"},
            "answer: is missing, and these questions are scored; without gold answers: P2R.answer_many",
        ),
        (ROW | {"question": 5}, "question: Input should be a valid string"),
        (ROW | {"question": " "}, "the question is empty"),
        (ROW | {"answer": True}, "answer: Input should be a valid string"),
        (ROW | {"answer": None}, "answer: Input should be a valid string"),
        (ROW | {"answer": " "}, "answer: is empty"),
        (ROW | {"image": "images/2.jpg"}, "image: no file"),
        (ROW | {"image": "images"}, "image: no file"),
        (ROW | {"image": "\0"}, "image: no file"),
        (ROW | {"image": ["images/1.jpg"]}, "image: Input should be a valid string"),
        (ROW | {"choices": "red"}, "choices: Input should be a valid list"),
        (ROW | {"choices": ["red", None]}, "choices.1: Input should be a valid string"),
        (ROW | {"choices": ["red"]}, "one choice is none"),
        (ROW | {"choices": ["red", "Red"]}, "names more than one option: A, B"),
        (ROW | {"choices": ["blue", "green"]}, "answer: 'red' is neither a letter of AB nor an option"),
        (ROW | {"choices": ["blue", "green"], "answer": "C"}, "answer: 'C' is neither a letter of AB"),
        (ROW | {"choices": ["blue", "green"], "answer": "A or B"}, "names more than one option"),
        (ROW | {"answer_type": "letter"}, "answer_type: Input should be 'choice', 'number' or 'free'"),
        (ROW | {"answer_type": "choice"}, "a question of type choice needs at least two choices"),
        (
            ROW | {"choices": ["red", "blue"], "answer_type": "number"},
            "a question of type number takes no choices",
        ),
        (ROW | {"boxes": [[1, 2, 3]]}, "boxes.0: a box has 4 numbers, not 3"),
        (ROW | {"boxes": [[1, 2, 30, 40], [5, 5, 5, 9]]}, "boxes.1: box (5.0, 5.0, 5.0, 9.0) is not"),
        (ROW | {"boxes": [[1, 2, 30, 4000]]}, "boxes.0: box"),
        (ROW | {"boxes": [["1", 2, 3, 4]]}, "boxes.0.list[float].0: Input should be a valid number"),
        (
            '{"image": "images/1.jpg", "question": "q", "answer": "a", "boxes": [[NaN, 1, 2, 3]]}',
            "boxes.0: box",
        ),
        (ROW | {"choises": ["red", "blue"]}, "choises: did you mean 'choices'?"),
        (ROW | {"box": []}, None),
        (ROW | {"Boxes": []}, None),
        (ROW | {"alias": ["x"]}, None),
    ],
)
def test_an_error_names_the_line_and_the_key(folder: Path, row: object, message: str | None) -> None:
    path = write(folder, ROW | {"id": "first"}, row)
    if message is None:
        assert len(read_samples(path)) == 2
        return
    with pytest.raises(InputError) as caught:
        read_samples(path)
    assert str(caught.value).startswith(f"{path}, line 2: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1_000


def test_ids_are_unique(folder: Path) -> None:
    with pytest.raises(InputError, match="line 3: id 'a' is taken by line 1"):
        read_samples(write(folder, ROW | {"id": "a"}, ROW | {"id": "b"}, ROW | {"id": "a"}))
    with pytest.raises(InputError, match="line 2: id '2' is taken by line 1"):
        read_samples(write(folder, ROW | {"id": 2}, ROW))


def test_options_in_the_text_of_the_question_are_read(folder: Path) -> None:
    row = {"image": "images/1.jpg", "question": "How many? A. 6 B. 2", "answer": "B"}
    asked = [row, row | {"answer": "2"}, row | {"choices": []}, row | {"answer_type": "free"}]
    samples = read_samples(write(folder, *asked))
    assert [sample.question.choices for sample in samples] == [("6", "2"), ("6", "2"), (), ()]
    assert [sample.question.text for sample in samples[1:3]] == ["How many?", "How many? A. 6 B. 2"]
    assert [sample.answer for sample in samples] == ["B", "B", "B", "B"]
    with pytest.raises(InputError, match="answer: 'C' is neither a letter of AB nor an option"):
        read_samples(write(folder, row | {"answer": "C"}))


def test_a_file_that_cannot_be_read(folder: Path) -> None:
    with pytest.raises(InputError, match="there is no such file; p2r scenes FOLDER"):
        read_samples(folder / "none.jsonl")
    with pytest.raises(InputError, match="the file is empty"):
        read_samples(write(folder, ""))
    (folder / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"binary\.jsonl, line 1: it is not a text file"):
        read_samples(folder / "binary.jsonl")
    with pytest.raises(InputError, match="it is a folder, not a file"):
        read_samples(folder)


# As a data set of the library `datasets`.


def test_a_folder_of_scenes_as_a_dataset(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="the eval extra is not installed")
    made = list(write_scenes(tmp_path / "scenes", split="test", size="320x256", count=3))
    found = to_dataset(read_samples(tmp_path / "scenes" / "samples.jsonl"))
    assert found[0]["image"].size == (320, 256)
    assert found["boxes"][:] == [[list(box.as_tuple()) for box in one.boxes] for one in made]
    assert found["answer"][:] == [one.task.answer for one in made]
    assert found.features["image"] == datasets.Image()
    assert found.features["boxes"] == datasets.List(datasets.List(datasets.Value("float64")))
    # It survives a file, and the lines of the folder can be read without ours.
    file = str(tmp_path / "scenes.parquet")
    found.to_parquet(file)
    assert datasets.Dataset.from_parquet(file, cache_dir=str(tmp_path)).features == found.features
    table = found.to_pandas()
    assert list(table["category"]) == [one.task.family for one in made]
    lines = datasets.load_dataset(
        "json", data_files=str(tmp_path / "scenes" / "samples.jsonl"), cache_dir=str(tmp_path), split="train"
    )
    assert lines["boxes"][:] == found["boxes"][:]


def test_images_of_all_kinds_as_a_dataset(folder: Path) -> None:
    pytest.importorskip("datasets", reason="the eval extra is not installed")
    PIL.Image.new("RGB", (8, 6)).save(folder / "images" / "1.jpg")
    uri = "data:image/jpeg;base64," + base64.b64encode((folder / "images" / "1.jpg").read_bytes()).decode()
    (one,) = to_dataset([read_one(folder, image=uri)])
    assert one["image"].size == (8, 6)
    assert (one["boxes"], one["choices"]) == (None, [])
    row = {
        "images": ["images/1.jpg", uri],
        "question": "Which?",
        "answer": "7",
        "boxes": [{"box": [1, 2, 3, 4], "image": 1}],
    }
    (one,) = to_dataset(read_samples(write(folder, row)))
    assert [image.size for image in one["images"]] == [(8, 6)] * 2
    assert (one["boxes"], one["box_images"]) == ([[1, 2, 3, 4]], [1])
