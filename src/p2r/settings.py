"""The settings of all entry points: geometry, pixel budgets, token limits, prompts, and their digest.

A checkpoint folder may hold them as `p2r.json`, so that a model is used as it was trained; every checkpoint
of our training does. The constants are those of the paper and its release (docs/paper.md).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from p2r.errors import InputError, file_problem
from p2r.models.options import ModelOptions, checked, merged
from p2r.prompts import PromptPack
from p2r.types import BoxFormat  # noqa: TC001  (pydantic reads the annotation)

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS_FILE = "p2r.json"
MOST_LOOKS = 6  # levels; at each, what is shown is half as wide and half as high
# Newer than some results: left out at their defaults, so that old digests stay valid.
_YOUNGER = ("options", "box_format", "stretch_depth", "perceive_images", "looks")

_STRICT = ConfigDict(extra="forbid")
Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, slots=True)
class Geometry:
    """How boxes become evidence (paper, evidence construction).

    Attributes:
        max_crops: K, the most boxes that are cropped; all usable boxes are outlined.
        context_fraction: context on each side of a crop, as a share of the image's width or height.
        context_max_px: the most context on each side of a crop, in pixels of the original.
        outline_fraction: the width of an outline, as a share of the overview's width.
        outline_min_px: the least width of an outline, in pixels of the overview.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    max_crops: Count = 3
    context_fraction: Share = 0.10
    context_max_px: Annotated[int, Field(ge=0)] = 600
    outline_fraction: Share = 0.003
    outline_min_px: Count = 3


@dataclass(frozen=True, slots=True)
class PixelBudget:
    """The sizes of the images sent to a model.

    Attributes:
        overview_max_pixels: the most pixels of the whole image.
        crop_max_pixels: the most pixels of each crop.
        min_pixels: the least pixels of any image; smaller ones are enlarged.
        factor: both sides are multiples of this; one language-model token covers factor² pixels.
        context_tokens: the model's context window; None for no limit. The planner shrinks the images of a
            request until they fit beside `text_tokens`.
        text_tokens: the tokens of `context_tokens` that are reserved for prompt and answer.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    overview_max_pixels: Count = 4_194_304
    crop_max_pixels: Count = 4_194_304
    min_pixels: Count = 16 * 32 * 32
    factor: Count = 32
    context_tokens: Count | None = None
    text_tokens: Count = 2_048


@dataclass(frozen=True, slots=True)
class TokenLimits:
    """The most new tokens of each stage (paper, training limits: they fit both uses)."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    perceive: Count = 1_024  # of the perceiver's list of boxes
    reason: Count = 2_048  # of thinking and answer, in the modes `p2r` and `think`
    direct: Count = 16  # of the bare answer of mode `direct`


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything besides the question that decides the requests sent to a model.

    Attributes:
        geometry, budget, max_tokens, prompts, options: see their classes.
        box_format: how the perceiver writes a box. `qwen3`: x first, 0–1000. `pixels`: x first, pixels of
            the overview as it is sent. `gemini`: y first, 0–1000. `unit`: x first, 0–1.
        stretch_depth: images of 16 bits a sample that use less than a quarter of that range (microscopes,
            satellites, thermal cameras) are stretched to all of it.
        perceive_images: how the perceiver sees several images of one question. `together`: in one call, and
            each box names its image. `apart`: each in a call of its own, for models that know one image only
            and for more pages than fit into a context.
        looks: the most levels of looks, each at regions of half the sides of those before; 1 is the paper.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    geometry: Geometry = field(default_factory=Geometry)
    budget: PixelBudget = field(default_factory=PixelBudget)
    max_tokens: TokenLimits = field(default_factory=TokenLimits)
    prompts: PromptPack = field(default_factory=PromptPack)
    options: ModelOptions = field(default_factory=ModelOptions)
    box_format: BoxFormat = "qwen3"
    stretch_depth: bool = True
    perceive_images: Literal["together", "apart"] = "together"
    looks: Annotated[int, Field(ge=1, le=MOST_LOOKS)] = 1

    @property
    def digest(self) -> str:
        """Twelve hex digits over all settings; equal digests mean equal inputs for equal questions."""
        canonical = json.dumps(self.canonical(), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode(errors="backslashreplace")).hexdigest()[:12]

    def canonical(self) -> dict[str, Any]:
        """The plain data of the digest. The prompt has its box format filled in, as in the oldest results."""
        data = self.to_dict()
        data["prompts"]["perceive"] = self.prompts.perceive_template(self.box_format)
        return data

    def to_dict(self) -> dict[str, Any]:
        """Plain data for `from_dict`."""
        data, defaults = asdict(self), Settings()
        return {
            name: data[name]
            for name in data
            if name not in _YOUNGER or getattr(self, name) != getattr(defaults, name)
        }

    def save(self, folder: Path) -> None:
        """Write `p2r.json` into a checkpoint folder."""
        text = json.dumps(self.to_dict(), ensure_ascii=False, indent=2)
        (folder / SETTINGS_FILE).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")

    @classmethod
    def load(cls, path: Path) -> Settings:
        """Read settings from a `p2r.json` file or from the folder that holds one.

        Raises:
            InputError: the file is missing, not JSON, or has an unknown key or a wrong value.
        """
        return cls().overlaid(path)

    def overlaid(self, path: Path) -> Settings:
        """These settings with the changes in a file; see `load` and `updated`."""
        file = path / SETTINGS_FILE if path.is_dir() else path
        try:
            data = json.loads(file.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError) as error:
            hint = "p2r.json comes with a checkpoint, and docs/prompts.md shows its keys"
            raise InputError(f"settings {file}: {file_problem(error, hint)}") from error
        return self.updated(data, where=str(file))

    def updated(self, changes: dict[str, Any], *, where: str = "settings") -> Settings:
        """These settings with some values changed, at any depth.

        Raises:
            InputError: names the key and what is wrong with it.
        """
        # `from_dict` refuses what is not a mapping.
        data = merged(asdict(self), changes) if isinstance(changes, dict) else changes
        return Settings.from_dict(data, where=where)

    @classmethod
    def from_dict(cls, data: object, *, where: str = "settings") -> Settings:
        """Build settings from plain data, refusing unknown keys; missing ones keep their defaults.

        Raises:
            InputError: names the key and what is wrong with it.
        """
        return checked(cls, data, where=where)
