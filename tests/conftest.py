"""Fixtures of all tests. The scripted model is in fake_model.py."""

from __future__ import annotations

import os

# Before anything imports the hub's client: a test never reaches for a network.
os.environ["HF_HUB_OFFLINE"] = "1"
