"""The front page: `index.html` with `style.css` in it, so that the first paint needs one file."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

STATIC = Path(__file__).parent / "static"


def _hashed(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


_INDEX, _STYLE = ((STATIC / name).read_text(encoding="utf-8") for name in ("index.html", "style.css"))
_BEFORE, _PLACE, _AFTER = re.split("(?<=<style>)(.*)(?=</style>)", _INDEX)
FRONT_PAGE = _BEFORE + _STYLE + _AFTER
FRONT_TAG = f'"{_hashed(FRONT_PAGE)}"'
STYLE_HASH = _hashed(_STYLE)  # for the Content-Security-Policy
