"""Reading lettered options and other cells."""

from __future__ import annotations

import pytest

from p2r.datasets.cells import (
    image,
    letter,
    optional_text,
    options,
    text,
)
from p2r.errors import InputError


@pytest.mark.parametrize(
    "cell",
    [
        ["(A) x", "(B) y"],
        ["A x", "B y"],
        "['A. x', 'B. y']",
        "A. x\nB. y",
        "A x\nB y",
        "A. x B. y",
        "Options:\n(A) x\n(B) y",
        ["x", "y"],
    ],
)
def test_options_in_every_shape(cell):
    assert options({"o": cell}, "o") == ("x", "y")


@pytest.mark.parametrize(("cell", "found"), [("B", "B"), ("(b)", "B"), (" b. ", "B")])
def test_letters(cell, found):
    assert letter({"a": cell}, "a", ("x", "y")) == found


@pytest.mark.parametrize("cell", ["C", "AB", "", None, 1, True])
def test_what_is_no_letter_of_the_options(cell):
    with pytest.raises(InputError, match="column 'a'"):
        letter({"a": cell}, "a", ("x", "y"))


def test_texts():
    assert text({"a": 3}, "a") == "3"
    assert text({"a": 3.0}, "a") == "3"
    assert text({"a": 1.5}, "a") == "1.5"
    assert optional_text({}, "a") == ""
    with pytest.raises(InputError, match=r"expected a text, found \{'b': 1\}"):
        text({"a": {"b": 1}}, "a")


def test_images_in_every_shape(tmp_path):
    (tmp_path / "x.png").write_bytes(b"png")
    assert image({"i": {"bytes": b"png", "path": None}}, "i") == b"png"
    assert image({"i": b"png"}, "i") == b"png"
    assert image({"i": "cG5n"}, "i") == b"png"
    assert image({"i": ["x.png"]}, "i", tmp_path) == tmp_path / "x.png"
    assert image({"i": "data:image/png;base64,cG5n"}, "i") == "data:image/png;base64,cG5n"
    assert image({}, "i") == b""
    with pytest.raises(InputError, match="expected an image, found None"):
        image({"i": None}, "i")
