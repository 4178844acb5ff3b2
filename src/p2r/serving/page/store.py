"""Bounded store of the page, in memory: uploaded images, and results about them."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError
from p2r.images import ImageSource
from p2r.images.limits import MemoryBudget, Reservation

if TYPE_CHECKING:
    from p2r.images.limits import Limits
    from p2r.types import Prediction, Question

SCHEME = "p2r-image:"  # before the id of an image, in the `image_url` of a question
MAX_RESULTS = 50  # about one image
RESULTS_BYTES = 1024 * 1024  # what they count for


@dataclass(frozen=True, eq=False, slots=True)
class Result:
    """A question, what came of it, and everything about it as data that `json.dumps` takes."""

    question: Question
    prediction: Prediction
    record: dict[str, Any]


@dataclass(eq=False, slots=True)
class HeldImage:
    """An image under an id that cannot be guessed, with the newest results about it by their ids."""

    id: str
    name: str
    source: ImageSource  # for questions
    reservation: Reservation
    view: ImageSource | None = None  # for people; a flat image has none before it was copied
    results: dict[str, Result] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.view = None if self.source.is_flat else self.source

    def keep(self, question: Question, prediction: Prediction, model: str) -> str:
        """Hold a result for as long as the image is held; its id."""
        name = f"{self.id}~{secrets.token_urlsafe(18)}"
        record = {"id": name, "created": round(time.time()), "image": self.record(), "model": model}
        record |= {"question": question.text, "choices": question.choices}
        record["prediction"] = prediction.to_json()
        self.results[name] = Result(question, prediction, record)
        if len(self.results) > MAX_RESULTS:
            del self.results[next(iter(self.results))]
        return name

    def record(self) -> dict[str, Any]:
        """Its data for the page; `preparing`: whether its regions wait for the copy."""
        size = {"width": self.source.width, "height": self.source.height}
        return {"id": self.id, "name": self.name, **size, "preparing": self.view is None}


class Store(MemoryBudget):
    """Holds images; the one that was unused for longest goes first. Safe to use from several threads.

    Args:
        max_bytes: of all encoded images, those included that are still being received.
        limits: what an image may be at most.
    """

    def __init__(self, max_bytes: int, limits: Limits) -> None:
        super().__init__(max_bytes)
        self.pinned: dict[str, HeldImage] = {}
        self._limits = limits
        self._images: OrderedDict[str, HeldImage] = OrderedDict()
        self._lock = threading.Lock()

    def try_reserve(self, nbytes: int, staying: str = "") -> Reservation | None:
        """See `MemoryBudget`; images go until there is room, but not the one with the id `staying`."""
        while (reservation := super().try_reserve(nbytes)) is None and nbytes <= self.most:
            with self._lock:
                oldest = next((name for name in self._images if name != staying), None)
                if oldest is None:
                    return None
                # Nothing may refer to it, so that the memory of its copy is free too.
                self._images.pop(oldest).reservation.release()
        return reservation

    def add(self, data: bytes, name: str) -> HeldImage:
        """Hold an image.

        Raises:
            InputError: it cannot be read, or is over a limit.
        """
        name = "".join(char for char in name if char.isprintable())[:200] or "image"
        source = ImageSource.open(data, self._limits, name=name)
        if not (reservation := self.try_reserve(len(data) + RESULTS_BYTES)):
            raise InputError("there is no memory for another image now: try again later")
        image = HeldImage(secrets.token_urlsafe(18), name, source, reservation)
        with self._lock:
            self._images[image.id] = image
        return image

    def make_view(self, image: HeldImage) -> None:
        """Copy a large image, if there is room; the copy is abandoned when the image goes."""

        def reserve(nbytes: int) -> Reservation | None:
            return self.try_reserve(min(nbytes, self.most // 2), image.id)

        try:
            image.view = image.source.with_levels(reserve, lambda: image.id in self._images)
        finally:
            image.view = image.view or image.source

    def image(self, name: str) -> HeldImage | None:
        """The image with this id; None when it is not here, or not any more."""
        with self._lock:
            if name in self._images:
                self._images.move_to_end(name)
            return self._images.get(name) or self.pinned.get(name)

    def result(self, name: str) -> Result | None:
        """The result with this id; None when it is not here, or not any more."""
        image = self.image(name.partition("~")[0])
        return image.results.get(name) if image else None
