"""How tests are shared between processes. The scripted model is in fake_model.py."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest

# Before anything imports the hub's client: a test never reaches for a network.
os.environ["HF_HUB_OFFLINE"] = "1"


class ByFile(LoadScopeScheduling):
    """Tests of one file share a process, and so do all tests of training: they import torch and TRL once."""

    def _split_scope(self, nodeid: str) -> str:
        return "training" if nodeid.startswith("tests/training/") else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """For `--dist loadscope`; `loadgroup` has no effect with pytest 9.2 and xdist 3.8."""
    return ByFile(config, log)
