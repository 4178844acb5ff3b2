"""The batched vision forward equals transformers' own; examples equal what the pipeline sends."""

import random
import re

import numpy as np
import pytest
import torch
from PIL import Image

from p2r.evidence import build_evidence, plain_overview
from p2r.images import EncodedImage, ImageSource
from p2r.parsing.perception import parse_perception
from p2r.prompts import perceive_messages, reason_messages
from p2r.scenes import make_sample
from p2r.scenes.tags import COLORS
from p2r.types import Question
from scripts.nano.build import NANO_SETTINGS, Shape, build_model, build_processor, number_tokens
from scripts.nano.language_stage import accumulate_gradients, place_ids
from scripts.nano.lessons import perceive_target
from scripts.nano.scenepack import draw_pack
from scripts.nano.sft_data import ExampleBuilder
from scripts.nano.tower import encode, encode_pack, token_lookup

pytestmark = pytest.mark.long  # making the bundled weights is not what most changes touch

SMALL = Shape(hidden=64, layers=3, mlp=96, vision_hidden=48, vision_depth=2, vision_mlp=64, vocabulary=1_100)


@pytest.fixture(scope="module")
def processor():
    return build_processor(SMALL.vocabulary)


@pytest.fixture(scope="module")
def model(processor):
    return build_model(processor, SMALL)


@pytest.fixture(scope="module")
def builder(processor):
    pack = draw_pack(20, NANO_SETTINGS, processes=1)
    return ExampleBuilder(pack, processor.tokenizer, NANO_SETTINGS)


def test_encode_equals_the_stock_forward(model, processor) -> None:
    rng = np.random.default_rng(0)
    groups = [
        rng.integers(0, 256, (3, 160, 160, 3), np.uint8),
        rng.integers(0, 256, (2, 128, 192, 3), np.uint8),
    ]
    images = [Image.fromarray(image) for group in groups for image in group]
    inputs = processor.image_processor(images=images, return_tensors="pt", do_resize=False)
    with torch.no_grad():
        stock = model.model.visual(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output
        ours = encode(model.model.visual, [torch.from_numpy(group) for group in groups])
    assert torch.allclose(torch.cat([part.flatten(0, 1) for part in ours]), stock, atol=2e-5)


def test_every_coordinate_is_one_token(processor) -> None:
    assert len(number_tokens(processor.tokenizer)) == 101


def test_place_ids_equal_the_stock_ones(model, builder) -> None:
    for index in range(builder.scenes):
        for task in ("perceive", "reason"):
            example = builder.example(task, index, random.Random(index))
            ids = torch.tensor([example.prompt + example.target])
            grid = torch.tensor([[1, *(builder.pack.sizes[n][::-1] // 16)] for n in example.images])
            stock, _ = model.model.get_rope_index(
                ids, (ids == model.config.image_token_id).int(), image_grid_thw=grid
            )
            assert np.array_equal(
                stock[:, 0].numpy(), place_ids(example, builder.pack.sizes, model.config.image_token_id)
            )


def test_example_prompts_equal_those_of_the_pipeline(builder, processor) -> None:
    """An example's prompt is, token for token, what the processor makes of the pipeline's own messages."""
    for index in range(builder.scenes):
        made = make_sample("train", index)
        overview = EncodedImage(builder.pack.image(int(builder.pack.firsts[index])))
        question = Question(
            Image.fromarray(overview.pixels), made.task.text, made.task.choices, made.task.answer_type
        )
        example = builder.example("perceive", index, random.Random(0))
        assert example.prompt == _prompt(
            processor, perceive_messages(NANO_SETTINGS.prompts, question, overview)
        )


def test_example_images_have_the_sizes_of_the_pipeline(builder) -> None:
    """At 4K, overview and crops come in the sizes in which the planner shows them."""
    made = make_sample("train", 1)
    source = ImageSource.open(made.render())
    example = builder.example("reason", 1, random.Random(0))
    overview = plain_overview(source, NANO_SETTINGS)
    assert tuple(builder.pack.sizes[example.images[0]]) == overview.size
    evidence = build_evidence(source, made.boxes, NANO_SETTINGS)
    question = Question(source, made.task.text, made.task.choices, made.task.answer_type)
    messages = reason_messages(NANO_SETTINGS.prompts, question, evidence)
    assert [part.size for part in messages[0].content if isinstance(part, EncodedImage)] == [
        evidence.overview.size,
        *(crop.image.size for crop in evidence.crops),
    ]


def _prompt(processor, messages) -> list[int]:
    images = [
        part.to_pil() for message in messages for part in message.content if isinstance(part, EncodedImage)
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
    return processor(text=[text], images=images, do_resize=False)["input_ids"][0]


def test_targets_read_back(builder, processor) -> None:
    made = make_sample("train", 2)
    perception = parse_perception(perceive_target(made.boxes))
    assert perception.outcome == "boxes"
    assert [box.label for box in perception.boxes] == [box.label for box in made.boxes]
    for gold, read in zip(made.boxes, perception.boxes, strict=True):
        assert max(abs(a - b) for a, b in zip(gold.as_tuple(), read.as_tuple(), strict=True)) <= 5


def test_a_few_steps_lower_the_loss(model, builder) -> None:
    torch.manual_seed(0)
    model.set_attn_implementation({"text_config": "eager"})
    lookup = token_lookup(encode_pack(model.model.visual, builder.pack, SMALL.hidden), builder.pack)
    examples = [builder.example("perceive", index, random.Random(0)) for index in range(8)]
    optimizer = torch.optim.AdamW(model.model.language_model.parameters(), lr=3e-3)
    losses = []
    for _ in range(18):
        losses.append(accumulate_gradients(model, builder, lookup, examples, 1.0)["loss_perceive"])
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.5 * losses[0]


def test_attention_targets_are_the_named_color_and_on_the_objects_cell(builder, processor) -> None:
    tokenizer = processor.tokenizer
    checked = 0
    for index in range(builder.scenes):
        made = builder.pack.sample(index)
        for task in ("perceive", "reason"):
            example = builder.example(task, index, random.Random(3))
            both = example.prompt + example.target
            for aim in example.attention:
                if tokenizer.decode([both[aim.cell]]) != "<|image_pad|>":
                    continue
                color, written = (
                    tokenizer.decode([both[aim.words[0]]]),
                    tokenizer.decode([both[aim.position + 1]]),
                )
                (thing,) = [thing for thing in made.scene.objects if thing.color == color]
                if task == "perceive":
                    assert written.isdigit()
                elif made.task.family == "position":
                    assert int(written) in {round(100 * where) * 10 for where in (thing.x, thing.y)}
                else:
                    assert written in thing.text
                # The cell's pixels hold the object's color.
                assert _looks_like(builder, example, aim.cell, color), (index, task)
                checked += 1
    assert checked > 60


def test_attention_targets_are_what_a_conclusion_follows_from(builder, processor) -> None:
    """Of examples and of drills: what is written, what is read for it, and the word that it comes from."""
    seen: dict[str, set[str]] = {"arithmetic": set(), "compare": set(), "position": set(), "read": set()}
    rng = random.Random(3)
    examples = [builder.example("reason", index, rng) for index in range(builder.scenes)]
    for example in (*examples, *(builder.drill(rng) for _ in range(60))):
        words = [processor.tokenizer.decode([token]) for token in example.prompt + example.target]
        prompt, thinking = "".join(words).rsplit("<think>", 1)
        question = prompt.split("Question: ")[1].splitlines()[0]
        digits, said = re.findall(r"shows (\d)", thinking), re.findall(r"= (\d+)", thinking)
        for aim in example.attention:
            written, cell = words[aim.position + 1], words[aim.cell]
            sources = [words[place] for place in aim.words]
            if cell == "<|image_pad|>":
                continue
            if words[aim.position].strip() == "=":
                kind = "arithmetic"
                assert sorted(sources) == sorted(digits)
            elif written in ("yes", "no"):
                kind = "compare"
                assert sources == said
            elif written in ("left", "right", "above", "below"):
                kind = "position"
                assert sources == said
                assert cell == written
            elif written in COLORS:
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


def test_a_drill_states_the_facts_and_requests_the_conclusion(builder, processor) -> None:
    rng = random.Random(5)
    for _ in range(40):
        drill = builder.drill(rng)
        given, asked = (processor.tokenizer.decode(ids) for ids in (drill.prompt, drill.target))
        assert drill.images == ()
        assert "<|image_pad|>" not in given
        assert len(re.findall(r"tag (?:shows|is at \w =) \d+", given)) == 2
        assert not re.search(r"tag (?:shows|is at)", asked)
        assert re.fullmatch(r".+</think><answer>\w+</answer><\|im_end\|>", asked)


def _looks_like(builder, example, place: int, color: str) -> bool:
    """Whether the visual token at `place` of the prompt shows `color`."""
    pad = example.prompt[place]
    number = example.prompt[:place].count(pad)
    for image in example.images:
        pixels = builder.pack.image(image).astype(int)
        rows, columns = pixels.shape[0] // 32, pixels.shape[1] // 32
        if number < rows * columns:
            top, left = 32 * (number // columns), 32 * (number % columns)
            cell = pixels[top : top + 32, left : left + 32]
            return bool((np.abs(cell - np.array(COLORS[color])).max(axis=-1) < 90).any())
        number -= rows * columns
    raise AssertionError("no image holds this place")
