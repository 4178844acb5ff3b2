"""Question → messages: their content and order for each role, and invalid packs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from p2r.errors import InputError
from p2r.images import EncodedImage
from p2r.nano import WEIGHTS
from p2r.prompts import PromptPack, direct_messages, perceive_messages, reason_messages, render_choices
from p2r.settings import Settings
from p2r.types import Box, Crop, Evidence, Question
from tests.fake_model import said, shown

if TYPE_CHECKING:
    from p2r.types import BoxFormat

CHOICE = Question("x.png", " Which color? ", ("red", "blue"))
NUMBER = Question("x.png", "How many?", answer_type="number")
FREE = Question("x.png", "What does it say?")


def image(shade: int) -> EncodedImage:
    return EncodedImage(np.full((32, 32, 3), shade, np.uint8))


OVERVIEW = image(0)
CROPS = tuple(
    Crop(image(shade), Box(0, 0, 10, 10), (0, 0, 32, 32), color)
    for shade, color in [(1, "red"), (2, "green")]
)
PACK = PromptPack()


def test_choices_are_lettered_lines() -> None:
    assert render_choices(CHOICE) == "\nA. red\nB. blue"
    assert render_choices(FREE) == ""


def test_the_perceiver_sees_the_image_and_then_the_question() -> None:
    (message,) = perceive_messages(PACK, CHOICE, OVERVIEW)
    assert message.role == "user"
    first, text = message.content
    assert first is OVERVIEW
    assert isinstance(text, str)
    assert "Question: Which color?\nA. red\nB. blue\n" in text
    assert '[{"bbox_2d": [x1, y1, x2, y2], "label": "what is there"}]' in text


@pytest.mark.parametrize(
    ("box_format", "wording"),
    [
        (
            "qwen3",
            '[{"bbox_2d": [x1, y1, x2, y2], "label": "what is there"}]. Coordinates run from 0 to 1000',
        ),
        ("pixels", "pixels of the image, which is 64 pixels wide and 32 pixels high."),
        ("gemini", '[{"box_2d": [y1, x1, y2, x2], "label": "what is there"}]. y comes before x.'),
        ("unit", "Coordinates run from 0 to 1 along the width"),
    ],
)
def test_the_prompt_describes_the_box_format_of_the_model(box_format: BoxFormat, wording: str) -> None:
    overview = EncodedImage(np.zeros((32, 64, 3), np.uint8))
    assert wording in said(perceive_messages(PACK, CHOICE, overview, box_format))


def test_the_wording_that_nano_was_trained_with_is_the_default() -> None:
    nano = Settings.load(WEIGHTS / "nano").prompts
    for question in (CHOICE, NUMBER, FREE):
        assert perceive_messages(nano, question, OVERVIEW) == perceive_messages(PACK, question, OVERVIEW)


def test_a_pack_may_name_the_box_format_and_the_size_or_not() -> None:
    pack = PromptPack(perceive="$question $$box_format ${box_format} in $width×$height")
    text = said(perceive_messages(pack, FREE, OVERVIEW, "unit"))
    assert text.startswith('What does it say? $box_format [{"bbox_2d"')
    assert text.endswith("0 to 1 along the width and the height. in 32×32")
    plain = PromptPack(perceive="Where? $question")
    assert said(perceive_messages(plain, FREE, OVERVIEW, "gemini")) == "Where? What does it say?"


def test_the_reasoner_sees_the_overview_then_the_crops_then_the_question() -> None:
    messages = reason_messages(PACK, CHOICE, Evidence(OVERVIEW, CROPS))
    assert shown(messages) == [OVERVIEW, CROPS[0].image, CROPS[1].image]
    assert isinstance(messages[0].content[-1], str)
    assert "2 in all, in this order: red, green" in said(messages)
    assert "Question: Which color?\nA. red\nB. blue\n" in said(messages)
    assert said(messages).endswith(PACK.choice_hint)


def test_without_crops_the_prompt_does_not_mention_them() -> None:
    messages = reason_messages(PACK, CHOICE, Evidence(OVERVIEW))
    assert shown(messages) == [OVERVIEW]
    assert "outlined" not in said(messages)
    assert "Close-ups" not in said(messages)
    assert "<think>" in said(messages)


def test_one_pass_is_asked_for_the_bare_answer() -> None:
    messages = direct_messages(PACK, FREE, OVERVIEW)
    assert shown(messages) == [OVERVIEW]
    assert "<think>" not in said(messages)
    assert "nothing else" in said(messages)


@pytest.mark.parametrize(
    ("question", "hint"), [(CHOICE, PACK.choice_hint), (NUMBER, PACK.number_hint), (FREE, PACK.free_hint)]
)
def test_the_hint_follows_the_answer_type(question: Question, hint: str) -> None:
    assert said(reason_messages(PACK, question, Evidence(OVERVIEW, CROPS))).endswith(hint)
    assert said(reason_messages(PACK, question, Evidence(OVERVIEW))).endswith(hint)
    assert said(direct_messages(PACK, question, OVERVIEW)).endswith(hint)


def test_a_system_text_is_a_message_of_its_own() -> None:
    system, user = perceive_messages(PromptPack(system="Be brief."), FREE, OVERVIEW)
    assert (system.role, system.content) == ("system", ("Be brief.",))
    assert user == perceive_messages(PACK, FREE, OVERVIEW)[0]


def test_a_users_text_is_never_expanded() -> None:
    question = Question("x.png", "Is $hint $5 or $$6? ${count} {question}", ("$choices", "$colours"))
    for messages in (
        perceive_messages(PACK, question, OVERVIEW),
        reason_messages(PACK, question, Evidence(OVERVIEW, CROPS)),
        direct_messages(PACK, question, OVERVIEW),
    ):
        assert "Is $hint $5 or $$6? ${count} {question}\nA. $choices\nB. $colours" in said(messages)


# Packs from files.

TOML = """
system = "Look closely."
perceive = "Where? $question$choices"
number_hint = "In $$, please."
"""


def test_a_pack_is_read_from_toml(tmp_path: Path) -> None:
    path = tmp_path / "short.toml"
    path.write_text(TOML, encoding="utf-8")
    pack = PromptPack.load(path)
    assert (pack.name, pack.system, pack.think) == ("short", "Look closely.", PACK.think)
    assert said(perceive_messages(pack, FREE, OVERVIEW)) == "Look closely.\nWhere? What does it say?"
    path.write_text('name = "mine"\n', encoding="utf-8")
    assert PromptPack.load(path) == PromptPack("mine")


def test_doubled_dollar_signs_are_one_in_every_template() -> None:
    pack = PromptPack(system="For $$5.", direct="$question $hint $$1", number_hint="In $$.")
    assert said(direct_messages(pack, NUMBER, OVERVIEW)) == "For $5.\nHow many? In $. $1"


def test_the_pack_of_the_guide_is_valid(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[1] / "docs" / "prompts.md").read_text(encoding="utf-8")
    path = tmp_path / "guide.toml"
    path.write_text(guide.partition("```toml\n")[2].partition("```")[0], encoding="utf-8")
    pack = PromptPack.load(path)
    assert (pack.name, pack.choice_hint, pack.think) == ("brief", "One letter.", PACK.think)
    assert "2 close-ups (red, green)" in said(reason_messages(pack, CHOICE, Evidence(OVERVIEW, CROPS)))


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ('percieve = "$question"', "unknown key 'percieve' (known: name, system, perceive, reason"),
        ("perceive = 5", "perceive must be a text"),
        ('perceive = "Where?"', "perceive: $question is missing"),
        (
            'perceive = "$question $hint"',
            "perceive: unknown $hint (known: $box_format, $choices, $height, $question, $width)",
        ),
        ('think = "$question for 5$"', "think: a lone '$'; write '$$' for a dollar sign"),
        ('system = "$question"', "system: unknown $question (known: none)"),
        ("perceive = ", "prompt pack"),
    ],
)
def test_a_pack_that_cannot_work_is_refused(tmp_path: Path, toml: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(toml, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        PromptPack.load(path)
    assert message in str(caught.value)
    assert "bad" in str(caught.value)


def test_a_pack_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml"):
        PromptPack.load(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"binary\.toml"):
        PromptPack.load(tmp_path / "binary.toml")
