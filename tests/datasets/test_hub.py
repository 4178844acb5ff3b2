"""What is said when the hub does not answer."""

from __future__ import annotations

import socket

import pytest

from p2r.datasets.hub import UnreachableError


def test_an_unreachable_hub_is_told_without_the_names_of_exceptions() -> None:
    with pytest.raises(socket.gaierror) as caught:
        socket.getaddrinfo("nowhere.invalid", 443)
    text = str(UnreachableError("me/data", caught.value))
    assert text.startswith("me/data: cannot be read: ")
    assert "Errno" not in text
    assert "gaierror" not in text
    assert str(UnreachableError("me/data", TimeoutError())).startswith(
        "me/data: cannot be read: TimeoutError; "
    )
