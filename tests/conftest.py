"""What every test shares. The scripted model is in fake_model.py, beside this file."""

from __future__ import annotations

import os

# Before anything imports the hub's client: a test never reaches for a network.
os.environ["HF_HUB_OFFLINE"] = "1"
