"""The batched vision forward equals transformers' own; lessons equal what the pipeline sends."""

import random
import re

import numpy as np
import pytest
import torch
from PIL import Image

from p2r.evidence import build_evidence, plain_overview
from p2r.images import ImageSource, Picture
from p2r.nano.build import NANO_SETTINGS, Shape, build_model, build_processor, number_tokens
from p2r.nano.classroom import Classroom
from p2r.nano.lessons import perceive_target
from p2r.nano.looking import encode_pack, remember
from p2r.nano.scenepack import draw_pack
from p2r.nano.speaking import place_ids, study
from p2r.nano.tower import encode
from p2r.parse import parse_perception
from p2r.prompts import perceive_messages, reason_messages
from p2r.scenes import COLOURS, make_sample
from p2r.types import Question

SMALL = Shape(hidden=64, layers=3, mlp=96, vision_hidden=48, vision_depth=2, vision_mlp=64, vocabulary=1_100)


@pytest.fixture(scope="module")
def processor():
    return build_processor(SMALL.vocabulary)


@pytest.fixture(scope="module")
def model(processor):
    return build_model(processor, SMALL)


@pytest.fixture(scope="module")
def room(processor):
    pack = draw_pack(20, NANO_SETTINGS, processes=1)
    return Classroom(pack, processor.tokenizer, NANO_SETTINGS)


def test_encode_equals_the_stock_forward(model, processor) -> None:
    rng = np.random.default_rng(0)
    groups = [
        rng.integers(0, 256, (3, 160, 160, 3), np.uint8),
        rng.integers(0, 256, (2, 128, 192, 3), np.uint8),
    ]
    pictures = [Image.fromarray(picture) for group in groups for picture in group]
    inputs = processor.image_processor(images=pictures, return_tensors="pt", do_resize=False)
    with torch.no_grad():
        stock = model.model.visual(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output
        ours = encode(model.model.visual, [torch.from_numpy(group) for group in groups])
    assert torch.allclose(torch.cat([part.flatten(0, 1) for part in ours]), stock, atol=2e-5)


def test_every_coordinate_is_one_token(processor) -> None:
    assert len(number_tokens(processor.tokenizer)) == 101


def test_place_ids_equal_the_stock_ones(model, room) -> None:
    for index in range(room.scenes):
        for task in ("perceive", "reason"):
            lesson = room.lesson(task, index, random.Random(index))
            ids = torch.tensor([lesson.prompt + lesson.target])
            grid = torch.tensor([[1, *(room.pack.sizes[n][::-1] // 16)] for n in lesson.pictures])
            stock, _ = model.model.get_rope_index(
                ids, (ids == model.config.image_token_id).int(), image_grid_thw=grid
            )
            assert np.array_equal(
                stock[:, 0].numpy(), place_ids(lesson, room.pack.sizes, model.config.image_token_id)
            )


def test_lesson_prompts_equal_the_pipelines(room, processor) -> None:
    """A lesson's prompt is, token for token, what the processor makes of the pipeline's own messages."""
    for index in range(room.scenes):
        made = make_sample("train", index)
        overview = Picture(room.pack.picture(int(room.pack.firsts[index])))
        question = Question(
            Image.fromarray(overview.pixels), made.task.text, made.task.choices, made.task.answer_type
        )
        lesson = room.lesson("perceive", index, random.Random(0))
        assert lesson.prompt == _prompt(
            processor, perceive_messages(NANO_SETTINGS.prompts, question, overview)
        )


def test_lesson_pictures_have_the_pipelines_sizes(room) -> None:
    """At 4K, overview and crops come in the sizes in which the planner shows them."""
    made = make_sample("train", 1)
    source = ImageSource.open(made.render())
    lesson = room.lesson("reason", 1, random.Random(0))
    overview = plain_overview(source, NANO_SETTINGS)
    assert tuple(room.pack.sizes[lesson.pictures[0]]) == overview.size
    evidence = build_evidence(source, made.boxes, NANO_SETTINGS)
    question = Question(source, made.task.text, made.task.choices, made.task.answer_type)
    messages = reason_messages(NANO_SETTINGS.prompts, question, evidence)
    assert [part.size for part in messages[0].content if isinstance(part, Picture)] == [
        evidence.overview.size,
        *(crop.picture.size for crop in evidence.crops),
    ]


def _prompt(processor, messages) -> list[int]:
    pictures = [
        part.to_pil() for message in messages for part in message.content if isinstance(part, Picture)
    ]
    chat = [
        {
            "role": message.role,
            "content": [
                {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
                for part in message.content
            ],
        }
        for message in messages
    ]
    text = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    return processor(text=[text], images=pictures, do_resize=False)["input_ids"][0]


def test_targets_read_back(room, processor) -> None:
    made = make_sample("train", 2)
    perception = parse_perception(perceive_target(made.boxes))
    assert perception.outcome == "boxes"
    assert [box.label for box in perception.boxes] == [box.label for box in made.boxes]
    for gold, read in zip(made.boxes, perception.boxes, strict=True):
        assert max(abs(a - b) for a, b in zip(gold.as_tuple(), read.as_tuple(), strict=True)) <= 5


def test_a_few_steps_lower_the_loss(model, room) -> None:
    torch.manual_seed(0)
    model.set_attn_implementation({"text_config": "eager"})
    look = remember(encode_pack(model.model.visual, room.pack, SMALL.hidden), room.pack)
    lessons = [room.lesson("perceive", index, random.Random(0)) for index in range(8)]
    optimiser = torch.optim.AdamW(model.model.language_model.parameters(), lr=3e-3)
    losses = []
    for _ in range(18):
        losses.append(study(model, room, look, lessons, 1.0)["loss_perceive"])
        optimiser.step()
        optimiser.zero_grad()
    assert losses[-1] < 0.5 * losses[0]


def test_glances_rest_on_the_named_colour_and_on_the_objects_cell(room, processor) -> None:
    tokenizer = processor.tokenizer
    checked = 0
    for index in range(room.scenes):
        made = room.pack.sample(index)
        for task in ("perceive", "reason"):
            lesson = room.lesson(task, index, random.Random(3))
            both = lesson.prompt + lesson.target
            for glance in lesson.glances:
                if tokenizer.decode([both[glance.cell]]) != "<|image_pad|>":
                    continue
                colour, written = (
                    tokenizer.decode([both[glance.words[0]]]),
                    tokenizer.decode([both[glance.position + 1]]),
                )
                (thing,) = [thing for thing in made.task.targets if thing.colour == colour]
                if task == "perceive":
                    assert written.isdigit()
                elif made.task.family == "position":
                    assert int(written) in {round(100 * where) * 10 for where in (thing.x, thing.y)}
                else:
                    assert written in thing.text
                # The cell's pixels hold the object's colour.
                assert _looks_like(room, lesson, glance.cell, colour), (index, task)
                checked += 1
    assert checked > 60


def test_glances_rest_on_what_a_conclusion_follows_from(room, processor) -> None:
    """Of lessons and of drills: what is written, what is read for it, and the word that it comes from."""
    seen = {"arithmetic": set(), "compare": set(), "position": set(), "read": set()}
    rng = random.Random(3)
    lessons = [room.lesson("reason", index, rng) for index in range(room.scenes)]
    for lesson in (*lessons, *(room.drill(rng) for _ in range(60))):
        words = [processor.tokenizer.decode([token]) for token in lesson.prompt + lesson.target]
        prompt, thinking = "".join(words).rsplit("<think>", 1)
        question = prompt.split("Question: ")[1].splitlines()[0]
        digits, said = re.findall(r"shows (\d)", thinking), re.findall(r"= (\d+)", thinking)
        for glance in lesson.glances:
            written, cell = words[glance.position + 1], words[glance.cell]
            sources = [words[place] for place in glance.words]
            if cell == "<|image_pad|>":
                continue
            if words[glance.position].strip() == "=":
                kind = "arithmetic"
                assert sorted(sources) == sorted(digits)
            elif written in ("yes", "no"):
                kind = "compare"
                assert sources == said
            elif written in ("left", "right", "above", "below"):
                kind = "position"
                assert sources == said
                assert cell == written
            elif written in COLOURS:
                kind = "compare"
                assert f"digit is {sources[0]}, on the {written}" in thinking
                assert f"{written} tag shows {cell}" in thinking
            elif len(sources) == 2:
                kind = "compare"
                assert sources == digits
                assert written == cell == (max if "larger" in question else min)(digits)
            else:
                kind = "read"
                assert thinking.endswith(f"<answer>{written}</answer><|im_end|>")
                assert f"\n{written}. {cell}" in prompt
                assert sources == [cell]
            seen[kind].add(written)
    assert all(len(kinds) >= 2 for kinds in seen.values()), seen


def test_a_drill_gives_the_facts_and_asks_for_the_conclusion(room, processor) -> None:
    rng = random.Random(5)
    for _ in range(40):
        drill = room.drill(rng)
        given, asked = (processor.tokenizer.decode(ids) for ids in (drill.prompt, drill.target))
        assert drill.pictures == ()
        assert "<|image_pad|>" not in given
        assert len(re.findall(r"tag (?:shows|is at \w =) \d+", given)) == 2
        assert not re.search(r"tag (?:shows|is at)", asked)
        assert re.fullmatch(r".+</think><answer>\w+</answer><\|im_end\|>", asked)


def _looks_like(room, lesson, place: int, colour: str) -> bool:
    """Whether the visual token at `place` of the prompt shows `colour`."""
    pad = lesson.prompt[place]
    number = lesson.prompt[:place].count(pad)
    for picture in lesson.pictures:
        pixels = room.pack.picture(picture).astype(int)
        rows, columns = pixels.shape[0] // 32, pixels.shape[1] // 32
        if number < rows * columns:
            top, left = 32 * (number // columns), 32 * (number % columns)
            cell = pixels[top : top + 32, left : left + 32]
            return bool((np.abs(cell - np.array(COLOURS[colour])).max(axis=-1) < 90).any())
        number -= rows * columns
    raise AssertionError("no picture holds this place")
