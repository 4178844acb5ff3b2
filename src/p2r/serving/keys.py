"""Bearer keys: read from a file, compared in constant time."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import TYPE_CHECKING

from p2r.errors import InputError, file_problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MIN_CHARS = 16
_KEY = re.compile(r"[!-~]+")


class Keys:
    """The keys that open the server. Only their hashes are kept."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._hashes = [_hashed(key.encode()) for key in keys]

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def hold(self, key: bytes) -> bool:
        """Whether a key is one of them.

        Hashes are compared, all of them, each in constant time: how long it takes tells nothing about how
        much of a key was right.
        """
        hashed = _hashed(key)
        found = False
        for known in self._hashes:
            found |= hmac.compare_digest(known, hashed)
        return found

    def admit(self, authorization: bytes, *, password: bool = False) -> bool:
        """Whether an `Authorization` header carries one of them.

        Args:
            authorization: the header.
            password: take a key as a password (`Basic`) too.
        """
        scheme, _, given = authorization.partition(b" ")
        kind = scheme.lower()
        if kind == b"basic" and password:
            try:
                given = base64.b64decode(given.strip(), validate=True).partition(b":")[2]
            except binascii.Error:
                return False
        elif kind != b"bearer":
            return False
        return self.hold(given.strip())


def _hashed(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def read_keys(file: Path) -> tuple[str, ...]:
    """Read keys, one a line; empty lines and lines that begin with `#` are left out.

    Raises:
        InputError: the file cannot be read, holds no key, or one that is too short or has blanks in it.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        problem = file_problem(error, "make a key with: openssl rand -hex 32")
        raise InputError(f"key file {file}: {problem}") from error
    keys = []
    for number, line in enumerate(lines, 1):
        key = line.strip()
        if not key or key.startswith("#"):
            continue
        if len(key) < MIN_CHARS or not _KEY.fullmatch(key):
            raise InputError(
                f"key file {file}: line {number}: a key is {MIN_CHARS} or more visible ASCII characters; "
                "make one with: openssl rand -hex 32"
            )
        keys.append(key)
    if not keys:
        raise InputError(f"key file {file}: there is no key in it; make one with: openssl rand -hex 32")
    return tuple(keys)
