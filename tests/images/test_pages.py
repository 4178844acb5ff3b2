"""Pages of PDF and TIFF files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pytest

from p2r.cli._image import open_images
from p2r.errors import InputError, MissingExtraError
from p2r.images import ImageSource, Limits, open_pages
from p2r.images.pdf import MAX_PIXELS
from p2r.pipeline import P2R
from tests.fake_model import FakeModel, said
from tests.image_files import encoded
from tests.tiff_files import Directory, tiff

if TYPE_CHECKING:
    from pathlib import Path

COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def pdf(*pages: tuple[tuple[float, float, float], tuple[float, float]]) -> bytes:
    """A document whose pages are filled with a color, each of a size in points; written by hand."""
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    kids = []
    for color, (width, height) in pages:
        paint = b"%g %g %g rg 0 0 %g %g re f" % (*color, width, height)
        kids.append(b"%d 0 R" % (len(objects) + 1))
        media = b"/MediaBox [0 0 %g %g] /Contents %d 0 R" % (width, height, len(objects) + 2)
        objects.append(b"<< /Type /Page /Parent 2 0 R %s >>" % media)
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(paint), paint))
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(kids), len(kids))
    file, places = b"%PDF-1.4\n", []
    for number, one in enumerate(objects, start=1):
        places.append(len(file))
        file += b"%d 0 obj\n%s\nendobj\n" % (number, one)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    count = len(objects) + 1
    trailer = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (count, len(file))
    return file + b"xref\n0 %d\n0000000000 65535 f \n%s" % (count, table) + trailer


LETTER = (612, 792)
THREE = pdf(((1, 0, 0), LETTER), ((0, 1, 0), (396, 288)), ((0, 0, 1), LETTER))


def tiff_pages(*colors: tuple[int, int, int]) -> bytes:
    first, *others = (PIL.Image.new("RGB", (120, 90), color) for color in colors)
    return encoded(first, "TIFF", save_all=True, append_images=others)


@pytest.fixture(params=["pdf", "tif"])
def document(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"file.{request.param}"
    path.write_bytes(THREE if request.param == "pdf" else tiff_pages(*COLORS))
    return path


def color(source: ImageSource) -> tuple[int, ...]:
    return tuple(source.overview((32, 32)).pixels[16, 16].tolist())


def test_each_page_is_an_image(document: Path) -> None:
    pages = open_pages(document)
    assert [color(page) for page in pages] == COLORS
    assert not any(page.notes for page in pages)
    assert pages[0].pages == 3
    assert [color(page) for page in open_pages(document.read_bytes())] == COLORS
    assert [color(page) for page in open_images(str(document))] == COLORS


def test_pages_are_named_after_the_path(document: Path) -> None:
    assert color(ImageSource.open(f"{document}#page=2")) == COLORS[1]
    assert [color(page) for page in open_pages(f"{document}#page=3")] == COLORS[2:]
    assert [color(page) for page in open_pages(f"{document}#page=1-2")] == COLORS[:2]
    assert [color(page) for page in open_images(f"{document}#page=2-3")] == COLORS[1:]
    assert ImageSource.open(document).notes == ("the file has 3 pages: the first was read",)
    # A file may have such a name.
    literal = document.with_name(f"{document.name}#page=2")
    literal.write_bytes(document.read_bytes())
    assert color(ImageSource.open(literal)) == COLORS[0]


@pytest.mark.parametrize(
    ("pages", "reason"),
    [
        ("4", "there is no page 4: it has 3"),
        ("2-9", "there is no page 4: it has 3"),
        ("0", "counted from 1"),
        ("3-2", "counted from 1"),
    ],
)
def test_pages_that_are_not_there_are_refused(document: Path, pages: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        open_pages(f"{document}#page={pages}")


def test_other_files_have_one_page(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(np.zeros((9, 9, 3), np.uint8), "PNG"))
    assert len(open_pages(f"{path}#page=1")) == 1
    with pytest.raises(InputError, match="no page 2: it has 1"):
        open_pages(f"{path}#page=2")
    with pytest.raises(InputError, match="2 pages, and one is needed here"):
        ImageSource.open(f"{path}#page=1-2")
    source = ImageSource.open(tiff_pages(*COLORS))
    assert open_pages(source) == [source]


def test_too_many_pages_are_refused_with_the_limit(document: Path) -> None:
    limits = Limits(max_pages=2)
    with pytest.raises(InputError, match="3 pages, and at most 2 are asked about at once"):
        open_pages(document, limits)
    assert len(open_pages(f"{document}#page=2-3", limits)) == 2


def test_a_smaller_level_is_no_page() -> None:
    def page(color: tuple[int, int, int], side: int, subfile: int) -> Directory:
        return Directory(np.full((side, side, 3), color, np.uint8), {254: (4, [subfile])})

    levels = tiff(
        page(COLORS[0], 64, 0), page(COLORS[0], 32, 1), page(COLORS[1], 64, 2), page(COLORS[1], 32, 3)
    )
    assert [color(source) for source in open_pages(levels)] == COLORS[:2]


def test_a_page_is_drawn_at_300_dots_per_inch_unless_it_is_large() -> None:
    small, large = open_pages(pdf(((1, 0, 0), (72, 144)), ((0, 1, 0), (7200, 7200))))
    assert small.size == (300, 600)
    assert 0.99 * MAX_PIXELS < large.width * large.height < 1.01 * MAX_PIXELS
    with pytest.raises(InputError, match="more than the limit"):
        ImageSource.open(pdf(((1, 0, 0), LETTER)), Limits(max_pixels=1_000_000))


def test_documents_that_cannot_be_read_are_refused() -> None:
    for data in (b"%PDF-1.4\nnothing", THREE[:400], pdf()):
        with pytest.raises(InputError, match="image of"):
            open_pages(data)
    with pytest.raises(InputError, match="PDF documents are not read here: render"):
        ImageSource.open(THREE, Limits(max_pages=0))


def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(MissingExtraError, match=r"perceive-to-reason\[documents\]"):
        ImageSource.open(THREE)


def test_a_question_about_one_page_of_many_finds_the_page(document: Path) -> None:
    def by_sight(messages):
        if "JSON list" not in said(messages):
            return "<answer>B</answer>"
        shown = [part for part in messages[-1].content if not isinstance(part, str)]
        green = [number for number, image in enumerate(shown, start=1) if image.pixels[16, 16, 1] > 200]
        return f'[{{"bbox_2d": [100, 100, 300, 300], "label": "green", "image": {green[0]}}}]'

    with P2R(FakeModel(by_sight)) as p2r:
        prediction = p2r.answer(document, "Which page is green?", ["1", "2", "3"])
    assert [box.image for box in prediction.boxes] == [1]
    assert prediction.answer == "B"
