"""One warm process and one set of small files for all tests of training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.training.warm import Warm

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    with Warm() as process:
        yield process


@pytest.fixture(scope="session")
def small(warm: Warm, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Paths of the phrase model, its samples and its recipe."""
    return warm.value("probes.make", folder=str(tmp_path_factory.mktemp("small")))
