"""Shared by the tests of pages: a browser, and a text that must never be read as HTML."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager

import pytest

NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028&amp;"
CHROMIUM = os.environ.get("P2R_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def chromium():
    """A browser; the test is skipped where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM:
        pytest.skip("no Chromium on this machine; set P2R_CHROMIUM to one")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
