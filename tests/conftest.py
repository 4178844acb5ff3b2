"""How tests are shared between processes. The scripted model is in fake_model.py."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from xdist.scheduler import LoadScopeScheduling

if TYPE_CHECKING:
    import pytest

# Before anything imports the hub's client: a test never reaches for a network.
os.environ["HF_HUB_OFFLINE"] = "1"

_WITH_NANO = ("tests/test_docs.py", "tests/models/test_placement.py")


class ByFile(LoadScopeScheduling):
    """Tests of one file share a process, and so do files that import the same large libraries.

    All tests of training import torch and TRL once; two files load the bundled model.
    """

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith("tests/training/"):
            return "training"
        return "nano" if nodeid.startswith(_WITH_NANO) else nodeid.partition("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """For `--dist loadscope`; `loadgroup` has no effect with pytest 9.2 and xdist 3.8."""
    return ByFile(config, log)
