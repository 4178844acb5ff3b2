"""The messages of a request → the question, its image, and the system prompts.

Chat clients send the whole conversation each time. Its newest text of the user is the question, and its
newest image is what the question is about; earlier texts and replies are not read and may hold anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from p2r.serving.errors import refused
from p2r.serving.schema import ImagePart, ImageUrl, TextPart
from p2r.serving.structured import find_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import BaseModel

    from p2r.serving.schema import Turn

_SYSTEM = ("system", "developer")


@dataclass(slots=True)
class Conversation:
    """What is read of the messages.

    Attributes:
        text, text_path: the question.
        image, image_path: where its image is.
        system: the texts of the system prompts.
        ignored: paths of what is not read.
    """

    text: str
    text_path: str
    image: str
    image_path: str
    system: list[str]
    ignored: list[str]

    def take_schema(self) -> object:
        """Remove the JSON schema that is written in a system prompt or in the question; None for none."""
        for index, text in enumerate(self.system):
            if found := find_schema(text):
                self.system[index] = found.before
                return found.schema
        if found := find_schema(self.text):
            self.text = found.before or found.after
            return found.schema
        return None


def read_conversation(turns: Sequence[Turn]) -> Conversation:
    """Find the question and its image.

    Raises:
        RequestFailed: there is none, or more than one to choose from; names the field.
    """
    talk = [turn for turn in turns if turn.message.role not in _SYSTEM]
    texts = _question(talk)
    image = _image(turns, talk)
    system = [part for turn in turns if turn.message.role in _SYSTEM for part in _parts(turn) if part.text]
    read = {part.path for part in (*texts, *system, image)}
    return Conversation(
        text="\n".join(part.text for part in texts),
        text_path=texts[0].path,
        image=image.url,
        image_path=image.url_path,
        system=[part.text for part in system],
        ignored=[path for turn in turns for path in _unread(turn, read)],
    )


def asks_nothing(value: object) -> bool:
    """Whether a field might as well have been left out."""
    return value is None or value is False or value in ("", "auto", "none", [], {})


def extras(model: BaseModel, path: str) -> list[str]:
    """The paths of the fields that are not known and ask for something."""
    unknown = (model.model_extra or {}).items()
    return [f"{path}.{name}".lstrip(".") for name, value in unknown if not asks_nothing(value)]


class _Part(NamedTuple):
    path: str
    text: str = ""
    url: str = ""
    url_path: str = ""
    raw: object = None


def _parts(turn: Turn) -> list[_Part]:
    content, at = turn.message.content, turn.content_path
    if isinstance(content, str):
        return [_Part(at, content, raw=content)]
    return [
        _part(raw, f"{at}.{index}") for index, raw in enumerate(content if isinstance(content, list) else ())
    ]


def _part(raw: object, path: str) -> _Part:
    if isinstance(raw, str):
        return _Part(path, raw, raw=raw)
    if isinstance(raw, TextPart):
        return _Part(path, raw.text, raw=raw)
    if isinstance(raw, ImagePart):
        within = ".url" if isinstance(raw.image_url, ImageUrl) else ""
        return _Part(path, "", raw.url, f"{path}.image_url{within}", raw)
    return _Part(path, raw=raw)


def _question(talk: Sequence[Turn]) -> list[_Part]:
    """The parts with the text of the question."""
    users = [index for index, turn in enumerate(talk) if turn.message.role == "user"]
    if not users:
        raise refused("messages", "there is no message of the user, so nothing is asked")
    last = talk[-1]
    if last.message.role == "assistant" and any(part.text.strip() for part in _parts(last)):
        raise refused(
            f"{last.path}.role",
            "a reply that was begun is not continued: the last message must be the user's, with the question",
        )
    newest = talk[users[-1]]
    if not isinstance(newest.message.content, str | list | None):
        raise refused(newest.content_path, "this must be a text, or a list of parts")
    for part in _parts(newest):
        if not isinstance(part.raw, str | TextPart | ImagePart | None):
            raise _unreadable(part)
    # A client may send the image and the text as two messages.
    for turn in reversed(talk[: users[-1] + 1]):
        if turn.message.role != "user":
            break
        if found := [part for part in _parts(turn) if part.text.strip()]:
            return found
    raise refused(newest.content_path, "there is no text, so nothing is asked")


def _unreadable(part: _Part) -> Exception:
    kind = part.raw.get("type") if isinstance(part.raw, dict) else None
    if kind in ("text", "input_text"):
        return refused(f"{part.path}.text", "this must be a text")
    if kind in ("image_url", "input_image"):
        within = "image_url.url" if kind == "image_url" else "image_url"
        return refused(f"{part.path}.{within}", "this must be a data: URI, or an address of an image")
    return refused(part.path, f"a question is made of text and image_url: {str(kind)[:40]!r} is not read")


def _image(turns: Sequence[Turn], talk: Sequence[Turn]) -> _Part:
    """The newest image of the conversation."""
    newest = next(turn for turn in reversed(talk) if turn.message.role == "user")
    for turn in reversed(turns):
        images = [part for part in _parts(turn) if part.url_path]
        if len(images) > 1 and turn is newest:
            raise refused(images[1].url_path, "one question is about one image, and this is another one")
        if images:
            return images[-1]
    raise refused(
        newest.content_path, "there is no image in the conversation: add one to the question, as an image_url"
    )


def _unread(turn: Turn, read: set[str]) -> list[str]:
    parts = _parts(turn)
    if not any(part.path in read for part in parts):
        return [turn.path]
    paths = extras(turn.message, turn.path)
    for part in parts:
        if part.path not in read:
            paths += [part.path] if part.raw else []
        elif isinstance(part.raw, TextPart | ImagePart):
            paths += extras(part.raw, part.path)
            if isinstance(part.raw, ImagePart) and isinstance(part.raw.image_url, ImageUrl):
                paths += extras(part.raw.image_url, f"{part.path}.image_url")
    return paths
