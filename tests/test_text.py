"""Text that must be encodable, and passwords in it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from p2r import P2R, Question
from p2r.datasets.samples import read_samples
from p2r.errors import InputError, ModelError
from p2r.models.base import Completion, Message
from p2r.models.wire import StreamReader
from p2r.runs.files import write_json
from p2r.runs.journal import Journal, read_lines
from p2r.text import encodable, secret_field, without_secrets
from p2r.types import Box, Sample
from tests.fake_model import FakeModel

if TYPE_CHECKING:
    from pathlib import Path

HALF, OTHER_HALF = "\ud83d", "\ude00"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("plain", "plain"),
        ("whole 😀", "whole 😀"),
        (f"{HALF}{OTHER_HALF}", "😀"),
        (f"a{HALF}b", "a\\ud83db"),
        (OTHER_HALF, "\\ude00"),
        ("caf\udce9", "caf\\udce9"),  # a file name in another encoding
        ("nul \0, cr \r, separator \u2028", "nul \0, cr \r, separator \u2028"),
    ],
)
def test_surrogates_are_joined_or_escaped(text: str, kept: str) -> None:
    assert encodable(text) == kept
    kept.encode()


def test_texts_of_questions_samples_boxes_and_replies_can_be_written() -> None:
    question = Question(b"", f"Which {HALF}?", (f"a{HALF}", "b"), id=HALF)
    sample = Sample(question, HALF, category=HALF, aliases=(HALF,))
    assert (question.text, question.choices, question.id) == ("Which \\ud83d?", ("a\\ud83d", "b"), "\\ud83d")
    assert (sample.answer, sample.category, sample.aliases) == ("\\ud83d", "\\ud83d", ("\\ud83d",))
    assert Box(0, 0, 1, 1, HALF).label == "\\ud83d"
    assert Message("user", (HALF,)).content == ("\\ud83d",)
    assert Completion(HALF, 1, 1, "stop").text == "\\ud83d"
    assert str(InputError(HALF)) == "\\ud83d"


def test_a_character_that_a_server_splits_between_two_pieces_is_one_character() -> None:
    reader = StreamReader()
    texts = ["a", HALF, OTHER_HALF, "b", HALF]
    pieces = [reader.feed({"choices": [{"index": 0, "delta": {"content": text}}]}) for text in texts]
    owed, whole = reader.end(done=True)
    assert pieces == ["a", "", "😀", "b", ""]
    assert (owed, whole.text) == ("\\ud83d", "a😀b\\ud83d")


def test_a_reply_with_half_a_character_is_answered_and_recorded(tmp_path: Path) -> None:
    boxes = '[{"bbox_2d": [1, 1, 500, 500], "label": "\\ud83d"}]'
    image = np.zeros((64, 64, 3), np.uint8)
    with P2R(FakeModel([boxes, f"<answer>B. blue {HALF}</answer>"])) as p2r:
        prediction = p2r.answer(image, f"Which {HALF}?", ("red", f"blue {HALF}"))
    assert prediction.answer == "B"
    with Journal(tmp_path / "a.jsonl") as journal:
        journal.append({"text": prediction.text, "path": "caf\udce9"})
    assert read_lines(tmp_path / "a.jsonl") == [
        {"text": "<answer>B. blue \\ud83d</answer>", "path": "caf\udce9"}
    ]
    write_json(tmp_path / "a.json", {"text": HALF})
    assert json.loads((tmp_path / "a.json").read_text()) == {"text": HALF}


def test_samples_with_strange_characters_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    texts = [HALF, "nul \0", "cr \r end", "separator \u2028 next \u2029 and \x85"]
    rows = [{"image": "a.png", "question": text, "answer": "red", "family": text} for text in texts]
    path = tmp_path / "samples.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=HALF in row["question"]) for row in rows))
    samples = read_samples(path)
    assert [sample.question.text for sample in samples] == [encodable(text) for text in texts]


def test_a_line_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    line = '{"image": "a.png", "question": "Größe", "answer": "x"}\n'
    path = tmp_path / "samples.jsonl"
    path.write_bytes(line.encode() + line.encode("latin-1"))
    with pytest.raises(InputError, match=r"samples\.jsonl, line 2: it is not a text file \(UTF-8\)"):
        read_samples(path)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://user:pass@host:80/v1#m", "http://host:80/v1#m"),
        ("http://user:p/a?s#s@host/v1#m,thinking=off", "http://host/v1#m,thinking=off"),
        ("https://token@host/v1", "https://host/v1"),
        ("HTTP://user:12345@host/v1", "HTTP://host/v1"),
        ("http://user:pass@[::1]:80/v1", "http://[::1]:80/v1"),
        ("https://host/v1?key=abc&x=1#m", "https://host/v1?key=…&x=…#m"),
        (
            "--model 'http://a:b@c/v1#m' --judge=http://d:e@f/v1",
            "--model 'http://c/v1#m' --judge=http://f/v1",
        ),
        ("http://host:8000/@x/y", "http://host:8000/@x/y"),
        ("http://[::1]:80/v1 and me@home", "http://[::1]:80/v1 and me@home"),
        ("hf://datasets/owner/name@1234/file", "hf://datasets/owner/name@1234/file"),
        ("Qwen/Qwen3-VL-4B-Instruct,thinking=off", "Qwen/Qwen3-VL-4B-Instruct,thinking=off"),
    ],
)
def test_urls_are_shown_without_their_secrets(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert str(ModelError(text, kind="timeout")) == shown


def test_fields_that_hold_secrets_are_found() -> None:
    assert secret_field({"a": [{"api_key": "x"}]}) == "a.api_key"
    assert secret_field({"headers": {"Authorization": "x"}}) == "headers.Authorization"
    assert secret_field({"hub_token": "x"}) == "hub_token"
    assert secret_field({"max_tokens": 1, "eos_token": "x", "hub_token": None, "thinking_tokens": 3}) == ""
