"""Fixtures of all tests. The scripted model is in fake_model.py."""

from __future__ import annotations

import os

import pytest

# Before anything imports the hub's client: a test never reaches for a network.
os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one file share a process; those that need torch and TRL share one, and start first."""
    items.sort(key=lambda item: not _is_warm(item))
    for item in items:
        item.add_marker(pytest.mark.xdist_group("warm" if _is_warm(item) else str(item.path)))


def _is_warm(item: pytest.Item) -> bool:
    return "warm" in getattr(item, "fixturenames", ())
