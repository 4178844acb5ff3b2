"""perceive-to-reason: answers questions about details in high-resolution images.

A perceiver looks at the whole image and lists the boxes of the evidence; the boxes are cropped at full
resolution; a reasoner answers from the annotated image and the crops (P2R, arXiv 2607.01191).

    from p2r import P2R
    with P2R() as p2r:
        print(p2r.answer("scene.jpg", "What is the number on the red circle?").answer)

Every name in `__all__` is loaded when it is first used, so that `import p2r` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from p2r.datasets.samples import read_samples as read_samples
    from p2r.errors import InputError as InputError
    from p2r.errors import MissingExtraError as MissingExtraError
    from p2r.errors import ModelError as ModelError
    from p2r.errors import P2RError as P2RError
    from p2r.evidence import build_evidence as build_evidence
    from p2r.evidence import draw_boxes as draw_boxes
    from p2r.evidence import plan_sizes as plan_sizes
    from p2r.images import EncodedImage as EncodedImage
    from p2r.images import ImageSource as ImageSource
    from p2r.images import Limits as Limits
    from p2r.models.base import Completion as Completion
    from p2r.models.base import Message as Message
    from p2r.models.base import Model as Model
    from p2r.models.base import Sampling as Sampling
    from p2r.models.base import StreamingModel as StreamingModel
    from p2r.models.loading import open_model as open_model
    from p2r.models.options import ModelOptions as ModelOptions
    from p2r.parsing.answers import read_answer as read_answer
    from p2r.parsing.answers import read_option as read_option
    from p2r.parsing.perception import parse_perception as parse_perception
    from p2r.pipeline import P2R as P2R
    from p2r.pipeline import Finished as Finished
    from p2r.pipeline import OpenedImage as OpenedImage
    from p2r.pipeline import Perceived as Perceived
    from p2r.pipeline import TextDelta as TextDelta
    from p2r.prompts import PromptPack as PromptPack
    from p2r.prompts import direct_messages as direct_messages
    from p2r.prompts import perceive_messages as perceive_messages
    from p2r.prompts import reason_messages as reason_messages
    from p2r.scoring import score as score
    from p2r.scoring.judge import Judge as Judge
    from p2r.settings import Geometry as Geometry
    from p2r.settings import PixelBudget as PixelBudget
    from p2r.settings import Settings as Settings
    from p2r.settings import TokenLimits as TokenLimits
    from p2r.types import Answer as Answer
    from p2r.types import Box as Box
    from p2r.types import Crop as Crop
    from p2r.types import Evidence as Evidence
    from p2r.types import Look as Look
    from p2r.types import Perception as Perception
    from p2r.types import Prediction as Prediction
    from p2r.types import Question as Question
    from p2r.types import Sample as Sample
    from p2r.types import Score as Score
    from p2r.types import Usage as Usage

__version__ = "0.2.0"

_HOMES: dict[str, tuple[str, ...]] = {
    "p2r.parsing.answers": ("read_answer", "read_option"),
    "p2r.errors": ("InputError", "MissingExtraError", "ModelError", "P2RError"),
    "p2r.evidence": ("build_evidence", "draw_boxes", "plan_sizes"),
    "p2r.images": ("ImageSource", "Limits", "EncodedImage"),
    "p2r.models.base": ("Completion", "Message", "Model", "Sampling", "StreamingModel"),
    "p2r.models.loading": ("open_model",),
    "p2r.models.options": ("ModelOptions",),
    "p2r.parsing.perception": ("parse_perception",),
    "p2r.pipeline": ("P2R", "Finished", "OpenedImage", "Perceived", "TextDelta"),
    "p2r.prompts": ("PromptPack", "direct_messages", "perceive_messages", "reason_messages"),
    "p2r.datasets.samples": ("read_samples",),
    "p2r.scoring": ("score",),
    "p2r.scoring.judge": ("Judge",),
    "p2r.settings": ("Geometry", "PixelBudget", "Settings", "TokenLimits"),
    "p2r.types": (
        "Answer",
        "Box",
        "Crop",
        "Evidence",
        "Look",
        "Perception",
        "Prediction",
        "Question",
        "Sample",
        "Score",
        "Usage",
    ),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(["__version__", *_HOME_OF])


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'p2r' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
