"""Make `src/p2r/scenes/fonts/`: fonts of Debian 12 packages, reduced to printable ASCII.

    apt download fonts-lato …            (the packages of FONTS)
    dpkg-deb -x fonts-lato_….deb FOLDER  (each of them)
    python scripts/fonts.py FOLDER

A reduced font is a modified version, and some licenses reserve the name of the original: the files and the
names in them are our own. LICENSES.txt says what each was made from and holds the license texts.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

from fontTools import subset  # type: ignore[import-untyped]
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

OUT = Path(__file__).parents[1] / "src/p2r/scenes/fonts"
# Our name, the package, and the file in it. No two splits share a face.
FONTS = (
    ("train-sans-1", "fonts-dejavu-core", "DejaVuSans-Bold.ttf"),
    ("train-sans-2", "fonts-lato", "Lato-Bold.ttf"),
    ("train-sans-3", "fonts-open-sans", "OpenSans-Bold.ttf"),
    ("train-plate-1", "fonts-opendin", "OSP-DIN.ttf"),
    ("train-mono-1", "fonts-inconsolata", "Inconsolata.otf"),
    ("train-segment-1", "fonts-dseg", "DSEG7Classic-Bold.ttf"),
    ("validation-sans-1", "fonts-karla", "Karla-Bold.otf"),
    ("validation-sans-2", "fonts-cantarell", "Cantarell-Bold.otf"),
    ("validation-plate-1", "fonts-bebas-neue", "BebasNeue-Bold.otf"),
    ("validation-mono-1", "fonts-courier-prime", "Courier Prime Sans Bold.otf"),
    ("validation-segment-1", "fonts-dseg", "DSEG7ModernMini-Bold.ttf"),
    ("test-sans-1", "fonts-roboto-unhinted", "Roboto-Bold.ttf"),
    ("test-sans-2", "fonts-liberation2", "LiberationSans-Bold.ttf"),
    ("test-plate-1", "fonts-roboto-unhinted", "RobotoCondensed-Bold.ttf"),
    ("test-mono-1", "fonts-jetbrains-mono", "JetBrainsMono-Medium.ttf"),
    ("test-segment-1", "fonts-dseg", "DSEG7Modern-BoldItalic.ttf"),
)
_COPYRIGHT, _FAMILY, _FULL, _POSTSCRIPT, _LICENSE, _ADDRESS = 0, 1, 4, 6, 13, 14


def main() -> None:
    """Write every font and LICENSES.txt."""
    parser = argparse.ArgumentParser(description="Reduce the fonts of the scenes.")
    parser.add_argument("folder", type=Path, help="where the packages were unpacked")
    folder = parser.parse_args().folder
    OUT.mkdir(exist_ok=True)
    lines = ["Fonts of the scenes, reduced to printable ASCII by scripts/fonts.py.", ""]
    for name, package, source in FONTS:
        (found,) = (folder / "usr/share/fonts").rglob(source)
        size = reduce(found, OUT / f"{name}{found.suffix}", name)
        lines.append(f"{name}{found.suffix}: made from {source} of Debian's {package} ({size} bytes)")
    for package in sorted({package for _, package, _ in FONTS}):
        text = (folder / "usr/share/doc" / package / "copyright").read_text(encoding="utf-8")
        lines += ["", "=" * 80, f"Debian's copyright file of {package}", "=" * 80, "", text.strip()]
    common = Path("/usr/share/common-licenses/Apache-2.0").read_text(encoding="utf-8")
    ofl = gzip.decompress((folder / "usr/share/doc/fonts-opendin/OFL-1.1.txt.gz").read_bytes()).decode()
    for title, text in (("Apache License 2.0", common), ("SIL Open Font License 1.1", ofl)):
        lines += ["", "=" * 80, title, "=" * 80, "", text.strip()]
    (OUT / "LICENSES.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def reduce(source: Path, target: Path, name: str) -> int:
    """Keep printable ASCII, without hints and layout features but kerning; the size in bytes."""
    font = TTFont(source)
    kept = [_COPYRIGHT, _LICENSE, _ADDRESS]
    options = subset.Options(hinting=False, layout_features=["kern"], name_IDs=kept, notdef_outline=True)
    work = subset.Subsetter(options)
    work.populate(unicodes=range(0x20, 0x7F))
    work.subset(font)
    shown = f"P2R {name}"
    for kind in (_FAMILY, _FULL, _POSTSCRIPT):
        font["name"].setName(shown.replace(" ", "-") if kind == _POSTSCRIPT else shown, kind, 3, 1, 0x409)
    if "CFF " in font:
        table = font["CFF "].cff
        table.fontNames = [shown.replace(" ", "-")]
        for key in ("FullName", "FamilyName", "Notice"):
            table.topDictIndex[0].rawDict.pop(key, None)
    font.save(target)
    return target.stat().st_size


if __name__ == "__main__":
    main()
