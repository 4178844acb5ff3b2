"""The front page: `index.html` with `style.css` in it: so the first paint needs one file."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

STATIC = Path(__file__).parent / "static"


def _hashed(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


_INDEX, _STYLE = ((STATIC / name).read_text(encoding="utf-8") for name in ("index.html", "style.css"))
# All modules are asked for at once, not each when another has named it.
_MODULES = "".join(
    f'<link rel="modulepreload" href="page/static/{file.name}">\n' for file in sorted(STATIC.glob("*.js"))
)
_HEAD, _STYLE_TAG, _REST = _INDEX.partition("<style>")
FRONT_PAGE = _HEAD + _MODULES + _STYLE_TAG + _STYLE + _REST[_REST.index("</style>") :]
FRONT_TAG = f'"{_hashed(FRONT_PAGE)}"'
STYLE_HASH = _hashed(_STYLE)  # for the Content-Security-Policy
