"""A browser and a server for the tests of the page; other files have servers of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fake_model import StreamingFakeModel
from tests.pages import chromium
from tests.serving.live_server import LiveServer, both_roles

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    from tests.serving.visitor import THOUGHT  # it needs playwright, and most tests here do not

    with LiveServer(both_roles(THOUGHT, kind=StreamingFakeModel), ui=True) as running:
        yield running
