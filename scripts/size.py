"""Lines of the source by package, and a ceiling that a new feature must stay under.

python scripts/size.py
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "p2r"
# Lines. The redesign aimed at 20,000; looks, several images, batches and worlds took 6,000 more, model cards,
# notebooks and the view as a dataset 600.
CEILING = 34_600
LONGEST = 450  # lines of one file


def main() -> int:
    """Print the table; 1 when the source is over the ceiling or a file is too long."""
    lines, files, long = Counter[str](), Counter[str](), []
    for file in sorted(SOURCE.rglob("*.py")):
        inside = file.relative_to(SOURCE)
        package = inside.parts[0] if len(inside.parts) > 1 else "(top level)"
        count = len(file.read_text(encoding="utf-8").splitlines())
        lines[package] += count
        files[package] += 1
        if count > LONGEST:
            long.append(f"{inside}: {count} lines, at most {LONGEST}")
    for package in sorted(lines):
        print(f"{package:14} {files[package]:4} files {lines[package]:7,} lines")
    print(f"{'total':14} {files.total():4} files {lines.total():7,} lines, ceiling {CEILING:,}")
    if lines.total() > CEILING:
        long.append(f"src/p2r has {lines.total():,} lines, more than {CEILING:,}: what can go?")
    print(*long, sep="\n", end="\n" if long else "")
    return 1 if long else 0


if __name__ == "__main__":
    sys.exit(main())
