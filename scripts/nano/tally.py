"""Means by name and world, added up on the device, so that a step never waits for them."""

from __future__ import annotations

import torch


class Tally:
    """Sums of values by name and group.

    Args:
        groups: their names, in the order of their numbers.
        device: of the values.
    """

    def __init__(self, groups: tuple[str, ...], device: torch.device) -> None:
        self.groups, self.device = groups, device
        self._sums: dict[str, torch.Tensor] = {}

    def add(self, name: str, group: torch.Tensor, values: torch.Tensor) -> None:
        """Add values, (n,), of the groups with these numbers, (n,)."""
        sums = self._sums.setdefault(name, torch.zeros(2, len(self.groups), device=self.device))
        values = values.detach().float()
        sums[0].index_add_(0, group, values)
        sums[1].index_add_(0, group, torch.ones_like(values))

    def flush(self) -> dict[str, dict[str, float]]:
        """The means by name and group, and under `all` that of everything; then starts anew."""
        found = {}
        for name, sums in self._sums.items():
            total, count = sums.tolist()
            means = {g: t / n for g, t, n in zip(self.groups, total, count, strict=True) if n}
            if sum(count):
                found[name] = {"all": sum(total) / sum(count), **means}
        self._sums = {}
        return found
