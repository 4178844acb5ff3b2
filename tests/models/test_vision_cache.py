"""Each distinct image is encoded once, with the features and gradients that it has otherwise."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from p2r.models import vision_cache
from p2r.models.vision_cache import VisionFeatureCache, encode_once
from tests.tiny_model import build_model

GRIDS = torch.tensor([[1, 4, 4], [1, 2, 6], [1, 4, 4], [1, 8, 4], [1, 2, 6], [1, 4, 4]])
DISTINCT = [0, 1, 3]  # of these images; the others repeat the first or the second
COPIES = [0, 1, 0, 3, 1, 0]


class Counted:
    """A real Qwen3-VL tower that counts the images which enter its blocks."""

    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        self.tower = build_model().model.visual.to(dtype)
        self.encoded: list[int] = []
        self.tower.blocks[0].register_forward_pre_hook(self._count, with_kwargs=True)
        generator = torch.Generator().manual_seed(0)
        sizes = GRIDS.prod(-1).tolist()
        images = [torch.randn(size, 3 * 2 * 16 * 16, generator=generator) for size in sizes]
        self.pixels = torch.cat([images[one] for one in COPIES]).to(dtype)

    def _count(self, _module: Any, _arguments: Any, named: dict[str, Any]) -> None:
        self.encoded.append(len(named["cu_seqlens"]) - 1)

    def once(self, cache: VisionFeatureCache | None = None) -> None:
        assert encode_once(self.tower, cache)
        self.encoded.clear()  # of the probe

    def __call__(self) -> tuple[torch.Tensor, ...]:
        output = self.tower(self.pixels, grid_thw=GRIDS)
        return output.pooler_output, *output.deepstack_features


def apart(found: tuple[torch.Tensor, ...], expected: tuple[torch.Tensor, ...]) -> float:
    """The largest difference, in standard deviations."""
    pairs = zip(found, expected, strict=True)
    return max(
        float((one - other).detach().abs().max() / other.detach().float().std()) for one, other in pairs
    )


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_repeated_images_have_the_features_of_the_first(dtype: torch.dtype, near: float) -> None:
    counted = Counted(dtype)
    with torch.no_grad():
        plain = counted()
        counted.once()
        assert apart(counted(), plain) < near
        assert apart(counted(), plain) < near
    assert counted.encoded == [len(DISTINCT)] * 2


def test_a_trained_tower_has_the_gradient_of_every_reader() -> None:
    counted = Counted()
    gradients = []
    for _ in range(2):
        features = counted()
        weights = (torch.linspace(-1, 1, one.numel()).reshape(one.shape) for one in features)
        torch.stack(
            [one.mul(other).sum() for one, other in zip(features, weights, strict=True)]
        ).sum().backward()
        gradients.append([weight.grad.clone() for weight in counted.tower.parameters()])
        counted.tower.zero_grad()
        if len(gradients) == 1:
            counted.once()
    for plain, once in zip(*gradients, strict=True):
        torch.testing.assert_close(once, plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max()))


def test_a_trained_tower_is_never_looked_up() -> None:
    counted = Counted()
    counted.once()
    with torch.no_grad():
        before = counted()
        for weight in counted.tower.parameters():
            weight.mul_(1.1)
        once = counted()
        del counted.tower.forward
        plain = counted()
    assert apart(once, plain) < 1e-5 < 0.1 < apart(before, plain)


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_a_frozen_tower_encodes_an_image_once_in_all_calls_and_without_gradient(
    dtype: torch.dtype, near: float
) -> None:
    counted = Counted(dtype)
    plain = counted()
    counted.once(VisionFeatureCache())
    for _ in range(3):
        found = counted()
        assert apart(found, plain) < near
        assert not any(one.requires_grad for one in found)
        for one in found:
            one.zero_()  # what a caller does to them stays with it
    assert counted.encoded == [len(DISTINCT)]


def test_features_of_another_precision_are_not_taken() -> None:
    cache = VisionFeatureCache()
    full, half = Counted(), Counted(torch.bfloat16)
    full.once(cache)
    half.once(cache)
    half()
    full()
    with torch.autocast("cpu", torch.bfloat16):
        full()
    assert full.encoded == [len(DISTINCT)] * 2
    assert half.encoded == [len(DISTINCT)]


def test_the_images_used_least_recently_make_room() -> None:
    counted = Counted()
    with torch.no_grad():
        tokens = [grid.prod().item() // 4 for grid in GRIDS]
        size = 2 * 32 * 4  # bytes of a token's features: two depths of 32 values
        cache = VisionFeatureCache(room=size * (tokens[0] + tokens[3]))
        counted.once(cache)
        plain = counted()
        assert cache._size == size * (tokens[1] + tokens[3])
        assert apart(counted(), plain) < 1e-5  # the first image again, and for it the second makes room
        kept = cache._features.values()
        assert cache._size == sum(
            one.nbytes for row in kept for one in (row.pooler_output, *row.deepstack_features)
        )
        # A part of a larger tensor would keep all of it.
        assert all(row.pooler_output.untyped_storage().nbytes() == row.pooler_output.nbytes for row in kept)
        assert cache._size <= cache._room
    assert counted.encoded == [3, 1]


def test_on_an_accelerator_an_image_is_known_by_sums_of_its_patches() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(50, 96, generator=generator)
    others = [image.flip(0), image.flip(1), image.roll(1, 1), -image]
    for place in (0, 17, 4_799):
        for change in (2.0**-20, -2 * float(image.flatten()[place])):  # a low bit; the sign alone
            others.append(image.clone())
            others[-1].flatten()[place] += change
    swapped = image.clone()
    swapped[[3, 4]] = swapped[[4, 3]]
    seen = {_sums(one) for one in (image, *others, swapped)}
    assert len(seen) == len(others) + 2
    assert _sums(image) == _sums(image.clone())
    # The batch that it is in makes no difference.
    assert _sums(torch.cat([others[0], image])[50:]) == _sums(image)
    assert len({_sums(one.bfloat16()) for one in (image, *others[:4], swapped)}) == 6


def _sums(image: torch.Tensor) -> bytes:
    return vision_cache._patch_sums(image.view(torch.int32)).numpy().tobytes()


class Invented(torch.nn.Module):
    """A tower of another kind."""

    spatial_merge_size = 2
    config = SimpleNamespace(in_channels=3, temporal_patch_size=2, patch_size=16)

    def __init__(self, *, mixing: bool) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.mixing = mixing

    def forward(self, patches: torch.Tensor, grid_thw: torch.Tensor) -> Any:
        assert len(patches) == sum(math.prod(grid) for grid in grid_thw.tolist())
        features = self.scale * patches.reshape(-1, 4, patches.shape[-1]).mean(1)
        return BaseModelOutputWithPooling(
            pooler_output=features + features.mean() if self.mixing else features
        )


@pytest.mark.parametrize(
    ("tower", "accepted"),
    [
        (Invented(mixing=False), True),
        (Invented(mixing=False).bfloat16(), True),
        (Invented(mixing=True), False),
        (Invented(mixing=True).bfloat16(), False),
        (torch.nn.Linear(3, 3), False),
        (None, False),
    ],
)
def test_a_tower_whose_images_see_each_other_is_left_alone(tower: Any, accepted: bool) -> None:
    assert encode_once(tower) is accepted
    assert ("forward" in getattr(tower, "__dict__", {})) is accepted
