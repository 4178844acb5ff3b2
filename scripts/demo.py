"""The questions of `p2r demo`, drawn anew: `python -m scripts.demo` replaces src/p2r/demo.

They are not chosen by hand: question i is scene i of a series of the test split that nothing else uses, with
family i of the list below.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyvips

from p2r.scenes import make_sample

FOLDER = Path(__file__).parent.parent / "src" / "p2r" / "demo"
SEED = 1  # `p2r scenes --split test` has 0 by default, and docs/results.md measures on that
QUALITY = 75  # of the JPEG files: they are part of the wheel
FAMILIES = ("read", "compare", "arithmetic", "code", "position", "whole", "read", "arithmetic")


def main() -> None:
    """Draw the images and write their questions."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "images").mkdir(parents=True)
    rows = []
    for index, family in enumerate(FAMILIES):
        made = make_sample("test", index, seed=SEED, family=family)
        name = f"{index + 1}-{family}"
        rows.append({**made.row(), "id": name, "image": f"images/{name}.jpg"})
        pyvips.Image.new_from_array(made.render()).write_to_file(str(FOLDER / rows[-1]["image"]), Q=QUALITY)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    (FOLDER / "samples.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
