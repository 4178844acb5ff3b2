"""Families that think by default or write pixels, in this process: from the question to the answer.

The checkpoints are very small ones of the real architectures, with the real chat templates (`taught.py`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from transformers import (
    CLIPImageProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    Qwen2VLImageProcessor,
)

from p2r import P2R, InputError, ModelError, ModelOptions, Settings
from p2r.evidence import plain_overview
from p2r.images import ImageSource
from p2r.model_checks import check_model
from p2r.models.base import Message
from p2r.models.checkpoint import read_part
from p2r.models.encoding import PromptEncoder
from p2r.scoring.localization import localize
from p2r.settings import PixelBudget, TokenLimits
from tests.fake_model import FakeModel, said, shown
from tests.grounding import SAMPLES, WRITERS, right_reply
from tests.models.taught import real_template, teach
from tests.tiny_model import SPECIAL, VOCABULARY, build_processor
from tests.training.families import write_family

if TYPE_CHECKING:
    from p2r.checks import CheckResult
    from p2r.types import BoxFormat, Prediction
    from tests.models.taught import Lesson

pytestmark = pytest.mark.long
SAMPLE = next(iter(SAMPLES.values()))
NO_THINKING = "<think>\n\n</think>\n\n"
THINKING = ("I look for the tag.", " There it is.", "</think>")
OFF, ON = ModelOptions(thinking=False), ModelOptions()


@dataclass(frozen=True)
class Family:
    """What differs between families: the architecture, the template, the settings, and what is written."""

    architecture: str
    template: str
    factor: int
    box_format: BoxFormat
    thinks: bool = False

    @property
    def settings(self) -> Settings:
        pixels = PixelBudget(65_536, 65_536, min_pixels=self.factor**2, factor=self.factor)
        return Settings(
            budget=pixels, max_tokens=TokenLimits(perceive=2, reason=2), box_format=self.box_format
        )


FAMILIES = {
    "Qwen2.5-VL": Family("qwen2_5_vl", "qwen2_5_vl", 28, "pixels"),
    "Qwen3.5": Family("qwen3_5", "qwen3_5_think", 32, "qwen3", thinks=True),
}


def question_of(family: Family, model: FakeModel | str, settings: Settings | None = None) -> Prediction:
    question = SAMPLE.sample().question
    with P2R(model, settings=settings or family.settings) as p2r:
        return p2r.answer(question.image, question.text, question.choices)


def scripted(family: Family) -> FakeModel:
    """A model of the family's box format that is right, and keeps what it was asked."""
    write = WRITERS[family.box_format]
    return FakeModel(lambda messages: right_reply(said(messages), write, shown(messages)[0].size))


def lessons(family: Family, model: FakeModel) -> list[Lesson]:
    """The right reply to each prompt that a scripted model was sent, after thinking where that is on."""
    found: list[Lesson] = []
    for call in model.calls:
        reply = right_reply(call.text, WRITERS[family.box_format], call.images[0].size)
        found.append((call.messages, OFF, (reply,)))
        if family.thinks:
            found.append((call.messages, ON, (*THINKING, reply.rpartition("</think>")[2])))
    return found


def teach_family(family: Family, folder: Path, model: FakeModel) -> str:
    """A checkpoint that replies to what a scripted model was asked; returns its spec."""
    taught = lessons(family, model)
    return str(teach(folder, family.architecture, real_template(family.template), taught, family.settings))


@pytest.fixture(scope="module", params=FAMILIES)
def taught(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Family, str]:
    """A family, and a checkpoint of it that was taught to answer one question about a scene."""
    family = FAMILIES[request.param]
    model = scripted(family)
    assert question_of(family, model).answer == SAMPLE.sample().answer
    return family, teach_family(family, tmp_path_factory.mktemp("taught"), model)


@pytest.fixture(scope="module")
def qwen2_5_vl(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_family(tmp_path_factory.mktemp("family"), "qwen2_5_vl"))


def assert_answered_from_the_evidence(prediction: Prediction) -> None:
    assert prediction.answer == SAMPLE.sample().answer
    located = localize(SAMPLE.boxes, prediction.boxes, prediction.crops_px, SAMPLE.size)
    assert located.complete
    assert located.iou[0] > 0.8
    assert not prediction.notes


def test_a_family_perceives_and_reasons(taught: tuple[Family, str]) -> None:
    family, folder = taught
    assert_answered_from_the_evidence(question_of(family, f"{folder},thinking=off"))


def test_a_family_that_thinks_by_default_says_what_to_set_and_works_with_either(
    taught: tuple[Family, str],
) -> None:
    family, folder = taught
    if not family.thinks:
        assert_answered_from_the_evidence(question_of(family, folder))
        return
    plain = question_of(family, folder)
    assert plain.perception is not None
    assert (plain.status, plain.perception.outcome) == ("no_answer", "malformed")
    for stage in ("the perceiver's reply", "the reply"):
        cut = (
            f"{stage} was cut at its limit of 2 tokens while the model was still thinking: add ,thinking=off"
        )
        assert any(note.startswith(cut) for note in plain.notes)
    longer = question_of(family, f"{folder},thinking_tokens=8")
    assert_answered_from_the_evidence(longer)
    assert longer.reply is not None
    assert longer.reply.thinking.startswith(THINKING[0])


@pytest.mark.parametrize(
    ("template", "plain", "off"),
    [
        ("qwen3_5_think", "<think>\n", NO_THINKING),
        ("qwen3_5_nothink", NO_THINKING, NO_THINKING),
        ("qwen3_6", "<think>\n", NO_THINKING),
        ("qwen3_8", "<think>\n", NO_THINKING),
        ("qwen2_5_vl", "", ""),
        ("qwen3_vl", "", ""),
    ],
)
def test_thinking_off_is_in_the_prompt(qwen2_5_vl: str, template: str, plain: str, off: str) -> None:
    processor, config = (read_part(kind, Path(qwen2_5_vl)) for kind in ("AutoProcessor", "AutoConfig"))
    processor.chat_template = real_template(template)
    for options, ending in ((ON, plain), (OFF, off)):
        prompt = PromptEncoder(processor, config, "m", options).render((Message("user", ("Hi",)),))
        assert prompt.endswith(f"Hi<|im_end|>\n<|im_start|>assistant\n{ending}")


@pytest.mark.parametrize(("patch", "least", "most"), [(14, 3_136, 12_845_056), (16, 65_536, 16_777_216)])
def test_the_own_processor_of_a_family_leaves_our_images_as_they_are(
    patch: int, least: int, most: int
) -> None:
    """With the limits of released checkpoints. Otherwise a box in pixels would be one of another image."""
    limits = {"shortest_edge": least, "longest_edge": most}
    own = Qwen2VLImageProcessor(patch_size=patch, merge_size=2, size=limits)
    settings = Settings(budget=PixelBudget(overview_max_pixels=300_000, min_pixels=least, factor=2 * patch))
    for width, height in ((1280, 720), (333, 1999), (90, 60)):
        image = ImageSource.open(np.zeros((height, width, 3), np.uint8))
        overview = plain_overview(image, settings)
        (grid,) = own(images=[overview.to_pil()], return_tensors="pt")["image_grid_thw"].tolist()
        assert (grid[2] * patch, grid[1] * patch) == overview.size


def test_images_for_another_patch_are_refused_with_the_cure(qwen2_5_vl: str) -> None:
    with pytest.raises(ModelError) as caught:
        question_of(FAMILIES["Qwen3.5"], qwen2_5_vl)
    assert "but this model needs sides in multiples of 28: --set budget.factor=28" in str(caught.value)


# What `p2r doctor` says of a family.


def findings(model: FakeModel | str, settings: Settings) -> dict[str, CheckResult]:
    results = asyncio.run(check_model(model, settings))
    return {result.name.rpartition(" ")[2]: result for result in results}


def test_doctor_finds_that_a_family_writes_pixels(tmp_path: Path) -> None:
    family = FAMILIES["Qwen2.5-VL"]
    asked, model = replace(family.settings, box_format="qwen3"), scripted(family)
    assert findings(model, asked)["boxes"].state == "failure"
    folder = teach(
        tmp_path / "m", family.architecture, real_template(family.template), lessons(family, model), asked
    )
    boxes = findings(str(folder), asked)["boxes"]
    assert boxes.detail.startswith("box format pixels: in 6 of 6 probes the crop shows the object")
    assert boxes.hint.startswith("--set box_format=pixels")


def test_doctor_names_the_factor_of_a_family(qwen2_5_vl: str) -> None:
    answers = findings(qwen2_5_vl, FAMILIES["Qwen3.5"].settings)["answers"]
    assert answers.state == "failure"
    assert "--set budget.factor=28" in answers.detail
    assert "the message says why" in answers.hint


def test_doctor_sees_that_a_family_thinks(tmp_path: Path) -> None:
    family = FAMILIES["Qwen3.5"]
    model = scripted(family)
    findings(model, family.settings)
    thoughts: list[Lesson] = [(call.messages, ON, THINKING[:2]) for call in model.calls]
    folder = teach(
        tmp_path / "model", family.architecture, real_template(family.template), thoughts, family.settings
    )
    found = findings(str(folder), family.settings)
    assert {found["answers"].state, found["boxes"].state} == {"warning"}
    assert "6 of 6 replies were cut at max_tokens.perceive = 2 while it was think" in found["boxes"].detail
    assert found["boxes"].hint.startswith("if it thinks, add ,thinking=off or ,thinking_tokens=")


def test_a_family_with_another_way_of_images_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    folder, parts = tmp_path / "llava", build_processor()
    text = {"model_type": "llama", "vocab_size": VOCABULARY, "num_hidden_layers": 1}
    small = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    vision = {"model_type": "clip_vision_model", "image_size": 28, "patch_size": 14, "num_hidden_layers": 2}
    config = LlavaConfig(
        vision_config=small | vision, text_config=text | small, image_token_id=SPECIAL["<|image_pad|>"]
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    LlavaProcessor(
        image_processor=CLIPImageProcessor(),
        tokenizer=parts.tokenizer,
        image_token="<|image_pad|>",
        chat_template=parts.chat_template,
    ).save_pretrained(folder)
    with pytest.raises(InputError, match=f"is a llava: in this process only .*; use vllm:{folder}, or"):
        P2R(str(folder))
