"""The parts of nano's pretraining against what they replace: transformers, and the pipeline."""

import random
import re
from dataclasses import replace

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
from p2r.settings import TokenLimits
from p2r.types import Question
from scripts.nano.build import (
    NANO_SETTINGS,
    Shape,
    build_model,
    build_processor,
    number_tokens,
    retokenized,
    save,
    train_tokenizer,
)
from scripts.nano.drawing import RECORD, Plan, cells_of, fill
from scripts.nano.lessons import perceive_target
from scripts.nano.pool import Pool, batch_of
from scripts.nano.rows import KINDS, OVERVIEW_CELLS, RowWriter
from scripts.nano.speaking import greedy, language_losses, log_attention, watched, with_crops
from scripts.nano.tower import encode
from scripts.nano.validate import crops_of

pytestmark = pytest.mark.long  # making the bundled weights is not what most changes touch

SMALL = Shape(hidden=64, layers=3, mlp=96, vision_hidden=64, vision_depth=2, vision_mlp=64, vocabulary=1_100)
PLAN = Plan(("tags",), (), 0)
SCENES = 20


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(SMALL.vocabulary, PLAN.all)


@pytest.fixture(scope="module")
def processor(tokenizer):
    return build_processor(0, tokenizer=tokenizer)


@pytest.fixture(scope="module")
def model(processor):
    return build_model(processor, SMALL)


@pytest.fixture(scope="module")
def records(tokenizer):
    writer = RowWriter(tokenizer, NANO_SETTINGS)
    records = np.zeros(SCENES, RECORD)
    rng = random.Random(0)
    for index in range(SCENES):
        assert fill(records[index], PLAN, writer, 0, index, False, rng)
    return records


@pytest.fixture(scope="module")
def pool(records):
    pool = Pool(128, 1, torch.device("cpu"))
    pool.add(records)
    return pool


def test_encode_equals_the_stock_forward(model, processor) -> None:
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in ((160, 160), (128, 192), (128, 224))]
    cells = torch.zeros(3, OVERVIEW_CELLS, 3072, dtype=torch.uint8)
    for number, image in enumerate(images):
        flat = torch.from_numpy(cells_of(image))
        cells[number, : len(flat)] = flat
    grids = torch.tensor([[image.shape[1] // 32, image.shape[0] // 32] for image in images])
    inputs = processor.image_processor(
        images=[Image.fromarray(image) for image in images], return_tensors="pt", do_resize=False
    )
    with torch.no_grad():
        stock = model.model.visual(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output
        ours = encode(model.model.visual, cells, grids)
    used = [row[: int(grid.prod())] for row, grid in zip(ours, grids, strict=True)]
    assert torch.allclose(torch.cat(used), stock, atol=2e-5)


def test_every_coordinate_is_one_token_and_other_numbers_are_digits(tokenizer) -> None:
    assert len(number_tokens(tokenizer)) == 101
    assert len(tokenizer.encode("3.49").ids) == 4
    assert len(tokenizer.encode("The red tag shows 310.").ids) > len(tokenizer.encode("[310, 0]").ids)


def _rows(pool, rows):
    for place in range(rows.count):
        length = int(rows.lengths[place])
        arrays = {name: array[place] for name, array in rows.arrays.items()}
        yield KINDS[rows.kind[place]], int(rows.scene[place]), length, arrays


def test_positions_equal_the_stock_ones(model, pool) -> None:
    for rows in (pool.look, pool.read):
        for kind, scene, length, row in _rows(pool, rows):
            if kind == "drill":
                continue
            ids = row["ids"][:length].long()[None]
            grids = [pool.grids[scene]]
            if rows is pool.read:
                grids += [pool.crop_grids[crop] for crop in crops_of(pool, np.array([scene]))]
            grid = torch.tensor([[1, 2 * int(r), 2 * int(c)] for c, r in grids])
            stock, _ = model.model.get_rope_index(
                ids, (ids == model.config.image_token_id).int(), image_grid_thw=grid
            )
            assert torch.equal(stock[:, 0], row["places"][:, :length].long())


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


def test_prompts_and_images_are_those_of_the_pipeline(tokenizer, processor) -> None:
    """Token for token what the processor makes of the pipeline's own messages about the full-size image."""
    writer, record = RowWriter(tokenizer, NANO_SETTINGS), np.zeros(1, RECORD)
    for index in (0, 3):
        # A validation scene has the evidence of exact gold boxes.
        fill(record[0], Plan(("tags",), (), 9), writer, 0, index, True, random.Random(0))
        made = make_sample("validation", index, seed=2, world="tags")
        source = ImageSource.open(made.render())
        question = Question(source, made.task.text, made.task.choices, made.task.answer_type)
        asked = perceive_messages(NANO_SETTINGS.prompts, question, plain_overview(source, NANO_SETTINGS))
        told = reason_messages(
            NANO_SETTINGS.prompts, question, build_evidence(source, made.boxes, NANO_SETTINGS)
        )
        for rows, messages in ((record[0]["look"], asked), (record[0]["read"], told)):
            row = rows[0]
            expected = _prompt(processor, messages)
            assert row["ids"][: row["start"] + 1].tolist() == expected


def test_targets_read_back() -> None:
    made = make_sample("train", 2)
    perception = parse_perception(perceive_target(made.boxes))
    assert perception.outcome == "boxes"
    assert [box.label for box in perception.boxes] == [box.label for box in made.boxes]
    for gold, read in zip(made.boxes, perception.boxes, strict=True):
        assert max(abs(a - b) for a, b in zip(gold.as_tuple(), read.as_tuple(), strict=True)) <= 5


def test_aims_are_what_a_token_follows_from(pool, tokenizer) -> None:
    seen = set()
    for rows in (pool.look, pool.read):
        for kind, scene, length, row in _rows(pool, rows):
            ids = row["ids"][:length].tolist()
            words = [tokenizer.decode([token], skip_special_tokens=False) for token in ids]
            for position, start, end, *_, cell in row["aims"].tolist():
                if position < 0:
                    continue
                written, source = words[position + 1], "".join(words[start:end])
                if cell >= 0 and words[cell] == "<|image_pad|>":
                    # The visual token shows the color that the name says.
                    color = source.split()[0]
                    number = int(row["source"][cell])
                    assert _shows(pool, rows, scene, number, color), (kind, scene)
                    assert written.isdigit() if kind == "perceive" else written.isalnum()
                    seen.add((kind, "image"))
                elif (
                    written
                    == tokenizer.decode(row["target"][row["target"] >= 0].tolist()).split("<answer>")[-1][0]
                ):
                    seen.add((kind, "conclusion"))
    assert {("perceive", "image"), ("reason", "image"), ("drill", "conclusion")} <= seen


def _shows(pool, rows, scene: int, number: int, color: str) -> bool:
    if number < OVERVIEW_CELLS:
        cell = (pool.overview if rows is pool.look else pool.annotated)[scene, number]
    else:
        number -= OVERVIEW_CELLS
        cell = pool.crop[int(pool.first_crop[scene]) + number // 50, number % 50]
    pixels = cell.view(4, 3, -1).permute(0, 2, 1).int()
    return bool(((pixels - torch.tensor(COLORS[color])).abs().amax(-1) < 90).any())


def _evidence(model, pool, batch):
    images = pool.overviews(batch["scene"], annotated=True)
    crops = pool.close_ups(crops_of(pool, batch["scene"]))
    visual = model.model.visual
    return with_crops(
        pool,
        batch["scene"],
        encode(visual, images.cells, images.grids),
        encode(visual, crops.cells, crops.grids),
    )


def test_the_supervised_attention_is_that_of_the_layer(model, pool) -> None:
    language = model.model.language_model
    batch = batch_of(pool, pool.read, np.arange(4))
    visual = _evidence(model, pool, batch)
    language.config._attn_implementation = "eager"
    weights = []
    handle = language.layers[1].self_attn.register_forward_hook(lambda _m, _i, out: weights.append(out[1]))
    try:
        with torch.no_grad(), watched(language) as seen:
            from scripts.nano.speaking import embedded

            language(
                inputs_embeds=embedded(language, batch["ids"], batch["source"], visual),
                position_ids=batch["places"].transpose(0, 1),
                use_cache=False,
            )
            places = batch["start"][:, None] + torch.arange(3)
            ours = log_attention(language.layers[1].self_attn, *seen[1], 0, places).exp()
    finally:
        handle.remove()
        language.config._attn_implementation = "sdpa"
    stock = torch.gather(weights[0][:, 0], 1, places[..., None].expand(-1, -1, ours.shape[-1]))
    assert torch.allclose(ours, stock, atol=1e-5)


def test_greedy_equals_generate(model, pool, processor) -> None:
    """Batched, padded and without a cache, it writes what transformers writes for one row."""
    batch = batch_of(pool, pool.read, np.arange(3))
    end = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    with torch.no_grad():
        ours = greedy(model.model.language_model, batch, _evidence(model, pool, batch), end, 6)
    for row in range(3):
        scene = int(batch["scene"][row])
        ids = batch["ids"][row, : int(batch["start"][row]) + 1][None]
        stored = [(pool.annotated[scene], pool.grids[scene])]
        stored += [(pool.crop[k], pool.crop_grids[k]) for k in crops_of(pool, np.array([scene]))]
        images = [Image.fromarray(_pixels(cells, grid)) for cells, grid in stored]
        inputs = processor.image_processor(images=images, return_tensors="pt", do_resize=False)
        with torch.no_grad():
            stock = model.generate(
                input_ids=ids,
                mm_token_type_ids=(ids == model.config.image_token_id).int(),
                **inputs,
                max_new_tokens=6,
                do_sample=False,
            )[0, ids.shape[1] :].tolist()
        assert ours[row] == stock[: len(ours[row])]


def _pixels(cells: torch.Tensor, grid) -> np.ndarray:
    columns, rows = (int(side) for side in grid)
    blocks = cells[: columns * rows].view(rows, columns, 2, 2, 3, 16, 16)
    return blocks.permute(0, 2, 5, 1, 3, 6, 4).reshape(rows * 32, columns * 32, 3).numpy()


def test_a_few_steps_lower_the_loss(model, pool) -> None:
    torch.manual_seed(0)
    language = model.model.language_model
    rows = np.flatnonzero(pool.look.kind[: pool.look.count] == KINDS.index("perceive"))[:8]
    batch = batch_of(pool, pool.look, rows)
    images = pool.overviews(batch["scene"], annotated=False)
    with torch.no_grad():
        visual = encode(model.model.visual, images.cells, images.grids)
    optimizer = torch.optim.AdamW(language.parameters(), lr=3e-3)
    losses = []
    for _ in range(18):
        text, aims, _, _ = language_losses(language, batch, visual)
        (text.mean() + aims).backward()
        losses.append((text.mean().item(), aims.item()))
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1][0] < 0.5 * losses[0][0]
    assert losses[-1][1] < losses[0][1]


def test_a_drill_states_the_facts_and_requests_the_conclusion(pool, tokenizer) -> None:
    drills = 0
    for kind, _, _, row in _rows(pool, pool.look):
        if kind != "drill":
            continue
        given = tokenizer.decode(row["ids"][: int(row["start"]) + 1].tolist(), skip_special_tokens=False)
        asked = tokenizer.decode([t for t in row["target"].tolist() if t >= 0], skip_special_tokens=False)
        assert "<|image_pad|>" not in given
        assert len(re.findall(r"tag (?:shows|is at \w =) \d+", given)) == 2
        assert not re.search(r"tag (?:shows|is at)", asked)
        assert re.fullmatch(r".+</think><answer>\w+</answer><\|im_end\|>", asked)
        drills += 1
    assert drills


def test_the_tower_learns_to_find_and_to_read(model, pool, processor) -> None:
    """On the few crops of the pool, where names and writing can be learned by heart."""
    from scripts.nano.seeing import SeeHead, augmented
    from scripts.nano.tally import Tally

    torch.manual_seed(0)
    visual = model.model.visual
    head = SeeHead(model.model.language_model.embed_tokens, processor.tokenizer)
    near = pool.close_ups(np.arange(8))
    optimizer = torch.optim.AdamW([*visual.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(20):
        tally = Tally((*PLAN.all, "sheets"), torch.device("cpu"))
        tokens = encode(visual, augmented(near.cells), near.grids)
        loss = head.losses(pool, tokens, near, tally, "near")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(visual.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        means = tally.flush()
    assert means["near place"]["all"] > 0.8
    assert means["near name"]["all"] > 0.8
    assert means["near value"]["all"] > 0.6


def test_every_stage_makes_steps_and_a_checkpoint_continues(tokenizer, records, tmp_path) -> None:
    from scripts.nano.training import Clock, Trainer

    class Drawn:
        """In place of the processes that draw: what is there."""

        drawn = len(records)

        def take(self, _most: int):
            return iter(())

    def trainer(resume=None):
        made = Trainer(
            PLAN,
            tokenizer,
            Drawn(),  # type: ignore[arg-type]
            replace(NANO_SETTINGS, max_tokens=TokenLimits(perceive=4, reason=4)),
            tmp_path,
            device=torch.device("cpu"),
            shape=SMALL,
            resume=resume,
            start=None,
            drawn=0,
            scale=0.02,
            rate=1.0,
            pool_bytes=1e8,
            pack=False,
        )
        made.pool.add(records)
        made.validation.add(records[:4])
        made.clock = Clock(0.0, 0.0, 1.0)
        return made

    first = trainer()
    before = {name: value.clone() for name, value in first.model.state_dict().items()}
    for stage in ("see", "speak", "together", "habits"):
        if stage == "speak":
            first.match_scales()
        first._set_rates()
        assert (first.see_step if stage == "see" else first.speak_step)(stage) > 0
        first._update()
    first._flush("habits", 1, 1, 1.0)
    first.check("habits", 10_000)
    assert '"validation"' in (tmp_path / "log.jsonl").read_text(encoding="utf-8")
    changed = [
        name for name, value in first.model.state_dict().items() if not torch.equal(before[name], value)
    ]
    # Only the deepstack mergers, which start at zero, are left out.
    assert not [name for name in before if name not in changed and "deepstack" not in name]
    first.keep("final")
    second = trainer(tmp_path / "final")
    for name, value in second.model.state_dict().items():
        assert torch.allclose(value, first.model.state_dict()[name], rtol=0.01, atol=1e-3)


def test_a_model_goes_on_with_another_tokenizer(model, processor, tmp_path) -> None:
    save(model, processor, NANO_SETTINGS, tmp_path)
    other = build_processor(0, tokenizer=train_tokenizer(SMALL.vocabulary, ("tags", "street"))).tokenizer
    retold = retokenized(tmp_path, other)
    old, new = (each.model.language_model.embed_tokens.weight for each in (model, retold))
    assert len(new) == len(other) == retold.config.text_config.vocab_size
    before, after = processor.tokenizer.get_vocab(), other.get_vocab()
    shared = [token for token in after if token in before]
    assert len(shared) > 400
    assert any(before[token] != after[token] for token in shared)
    kept = old[[before[token] for token in shared]].bfloat16().float()
    assert torch.equal(new[[after[token] for token in shared]], kept)
    assert retold.config.image_token_id == after["<|image_pad|>"]
    assert retold.lm_head.weight is new
    assert "door" in after
    assert "door" not in before
