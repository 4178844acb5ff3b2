"""Text from users, models and files: made encodable, and without passwords."""

from __future__ import annotations

import re

# Scheme; user and password (of any characters, but no port); host and path; query.
_URL = re.compile(
    r"\b([a-z][a-z0-9+.-]*://)(?:[^\s/:@'\"<>]*:(?!\d{1,5}(?:[/?#\s]|$))[^\s<>]*@|[^\s/?#'\"<>]*@)?"
    r"([^\s?#'\"<>]*)(\?[^\s#'\"<>]*)?",
    re.IGNORECASE,
)
_VALUE = re.compile(r"=[^&;]*")
# Fields of requests and of trainers that hold a secret.
_SECRET_FIELD = re.compile(
    r"api[-_]?key|access[-_]?key|(?:^|(?:hub|hf|access|auth|bearer|api)[-_])token$|passw|secret"
    r"|authorization|credential",
    re.IGNORECASE,
)


def encodable(text: str) -> str:
    r"""The text with surrogate pairs joined; a lone surrogate becomes its escape, such as `\ud83d`.

    JSON and file names may hold lone surrogates, which no file, request or tokenizer accepts.
    """
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        joined = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        return joined.encode(errors="backslashreplace").decode()
    return text


def is_data_uri(text: str) -> bool:
    """Whether a text holds its data itself: `data:image/png;base64,…`."""
    return text[:5].lower() == "data:"


def without_secrets(text: str) -> str:
    """The text with user, password and query values removed from its URLs."""
    if "://" not in text:
        return text
    return _URL.sub(lambda url: url[1] + url[2] + _VALUE.sub("=…", url[3] or ""), text)


def secret_field(data: object) -> str:
    """The path of a field that seems to hold a password or a key, at any depth; else empty."""
    if isinstance(data, dict):
        for name, value in data.items():
            if value and _SECRET_FIELD.search(str(name)):
                return str(name)
            if below := secret_field(value):
                return f"{name}.{below}"
    if isinstance(data, list | tuple):
        return next(filter(None, map(secret_field, data)), "")
    return ""
