"""The vision tower's patch embedding: the convolution of transformers, and the linear layer that equals it.

python benchmarks/patch_embedding.py
"""

from __future__ import annotations

import statistics
import time

import torch

from p2r.models.checkpoint import linearize_patch_embedding

REPEATS = 5
# (what, patches, output width): a nano overview, and a 4-megapixel image for Qwen3-VL-2B.
CASES = (("nano, 160×160 px", 100, 192), ("Qwen3-VL-2B, 2048×2048 px", 16_384, 1_024))


def median_s(tower: torch.nn.Module, pixels: torch.Tensor) -> float:
    tower.proj(pixels)
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        tower.proj(pixels)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, float32, median of {REPEATS}")
    print(f"{'':28}{'convolution':>14}{'linear':>12}{'ratio':>8}{'largest difference':>20}")
    for what, patches, width in CASES:
        tower = torch.nn.Module()
        tower.proj = torch.nn.Conv3d(3, width, kernel_size=(2, 16, 16), stride=(2, 16, 16))
        pixels = torch.randn(patches, 3, 2, 16, 16)
        with torch.inference_mode():
            expected = tower.proj(pixels).view(-1, width)
            before = median_s(tower, pixels)
            linearize_patch_embedding(tower)
            after = median_s(tower, pixels)
            difference = (tower.proj(pixels).view(-1, width) - expected).abs().max().item()
        print(f"{what:28}{before * 1e3:11.1f} ms{after * 1e3:9.1f} ms{before / after:8.1f}{difference:20.1e}")


if __name__ == "__main__":
    main()
