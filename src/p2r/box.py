"""A labeled region of an image, as the perceiver names it and the reasoner's evidence is cut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from p2r.errors import InputError
from p2r.text import encodable

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Box:
    """A labeled region of an image.

    Attributes:
        x0, y0, x1, y1: corners in 0–1000, `x0 < x1` and `y0 < y1`.
        label: the perceiver's name for what is inside; may be empty.
        image: the index of its image among `Question.images`.
        zoom: how many times less context its crop has than the paper's, because a closer look found it.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    label: str = ""
    image: int = 0
    zoom: float = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", encodable(self.label))
        # Written so that NaN fails too.
        if not (0 <= self.x0 < self.x1 <= 1000 and 0 <= self.y0 < self.y1 <= 1000 and self.image >= 0):
            image = f" of image {self.image}, from 0 on," if self.image else ""
            raise InputError(f"box {self.as_tuple()}{image} is not x0 < x1, y0 < y1 within 0–1000")

    def as_tuple(self) -> tuple[float, float, float, float]:
        """The corners `(x0, y0, x1, y1)`, 0–1000."""
        return (self.x0, self.y0, self.x1, self.y1)

    def to_json(self) -> dict[str, Any]:
        """Plain data: `{"box": [x0, y0, x1, y1], "label": …}`; `image` and `zoom` if they are not 0 and 1."""
        image = {"image": self.image} if self.image else {}
        zoom = {"zoom": self.zoom} if self.zoom != 1 else {}
        return {"box": list(self.as_tuple()), "label": self.label, **image, **zoom}

    @classmethod
    def from_json(cls, data: Mapping[str, Any] | Sequence[float]) -> Box:
        """What `to_json` wrote, or the corners alone."""
        if not isinstance(data, Mapping):
            data = {"box": data}
        x0, y0, x1, y1 = data["box"]
        more = {name: data[name] for name in ("label", "image", "zoom") if name in data}
        return cls(x0, y0, x1, y1, **more)

    @property
    def area(self) -> float:
        """The share of the image that the box covers, 0–1."""
        return (self.x1 - self.x0) * (self.y1 - self.y0) / 1e6

    @property
    def center(self) -> tuple[float, float]:
        """The center `(x, y)`, 0–1000."""
        return ((self.x0 + self.x1) / 2, (self.y0 + self.y1) / 2)

    def iou(self, other: Box) -> float:
        """Intersection over union with `other`, 0–1; 0 for boxes of different images."""
        if self.image != other.image:
            return 0.0
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        if width <= 0 or height <= 0:
            return 0.0
        shared = width * height / 1e6
        return shared / (self.area + other.area - shared)
