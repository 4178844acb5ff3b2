"""What arrives and what is sent: the part of the OpenAI chat protocol that is spoken here, as models.

A field that is not named here is refused, with its path; so is one that is named and cannot be served.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

ModelName = Literal["p2r", "p2r-think", "p2r-direct", "p2r-letter"]
FinishReason = Literal["stop", "length"]
MODEL_NAMES: tuple[ModelName, ...] = get_args(ModelName)

# Accepted because clients send them unasked; the reply names them in `p2r.ignored`.
IGNORED = (
    *("temperature", "top_p", "seed", "frequency_penalty", "presence_penalty", "user", "metadata", "store"),
    *("service_tier", "safety_identifier", "prompt_cache_key", "reasoning_effort", "verbosity"),
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class TextPart(_Strict):
    """A text of a message."""

    type: Literal["text"]
    text: str


class ImageUrl(_Strict):
    """Where a picture is: a `data:` URI, or an `http(s)` address of a host that the operator allows."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(_Strict):
    """A picture of a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class ChatMessage(_Strict):
    """One turn. The last one is the user's and holds the question; earlier turns are not read."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    refusal: None = None
    p2r: Any = None


class StreamOptions(_Strict):
    """Options of a stream."""

    include_usage: bool = False
    include_obfuscation: bool = False


class Options(_Strict):
    """How the method answers this request."""

    mode: Literal["p2r", "think", "direct"] | None = Field(
        default=None, description="Overrides that of the model."
    )
    answer_type: Literal["number", "free"] | None = Field(
        default=None, description="Of a question without options."
    )
    max_evidence: int | None = Field(default=None, ge=1, description="The most regions to zoom into.")
    overview_max_pixels: int | None = Field(
        default=None, ge=1, description="The most pixels of the whole picture."
    )
    crop_max_pixels: int | None = Field(default=None, ge=1, description="The most pixels of each region.")
    include_images: bool = Field(default=False, description="Send the outlined picture and the regions back.")


class ResponseFormat(_Strict):
    """Only plain text is written."""

    type: Literal["text"]


class ChatRequest(_Strict):
    """A question about a picture."""

    model: str = Field(description="p2r, p2r-think, p2r-direct or p2r-letter")
    messages: list[ChatMessage] = Field(min_length=1, max_length=1_000)
    max_tokens: int | None = Field(None, ge=1, description="Bounds the answer, not the stages before it.")
    max_completion_tokens: int | None = Field(None, ge=1)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    response_format: ResponseFormat | None = None
    p2r: Options = Field(default_factory=Options)
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    seed: int | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None

    @property
    def answer_tokens(self) -> int | None:
        """The most tokens of the answer, in whichever of the two fields it was given."""
        return self.max_completion_tokens or self.max_tokens


class FoundBox(BaseModel):
    """A region that the perceiver pointed at: corners `[x0, y0, x1, y1]` in 0–1000, and what is there."""

    box: list[float]
    label: str


class Images(BaseModel):
    """What the reasoner saw, as `data:` URIs."""

    overview: str
    crops: list[str]


class Looked(BaseModel):
    """What happened to a question.

    `crops_px` are the rectangles cut from the original, half-open pixels `[x0, y0, x1, y1]`; `outcome` is
    what was read from the perceiver's text; `digest` names prompts, geometry and budgets.
    """

    mode: Literal["p2r", "think", "direct"]
    status: Literal["answered", "no_answer"]
    answer: str | None
    choices: list[str]
    outcome: Literal["boxes", "whole", "malformed"] | None
    boxes: list[FoundBox]
    crops_px: list[list[int]]
    dropped: list[str]
    notes: list[str]
    ignored: list[str]
    truncated: bool
    seconds: dict[str, float]
    digest: str
    images: Images | None = None


class Reply(BaseModel):
    """The message of the answer."""

    role: Literal["assistant"] = "assistant"
    content: str
    reasoning_content: str
    refusal: None = None
    p2r: Looked


class Choice(BaseModel):
    """The one answer."""

    index: Literal[0] = 0
    message: Reply
    finish_reason: FinishReason
    logprobs: None = None


class TokenUsage(BaseModel):
    """Tokens of both stages together."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(BaseModel):
    """The whole reply."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: ModelName
    choices: list[Choice]
    usage: TokenUsage


class ListedModel(BaseModel):
    """A way to be answered."""

    id: ModelName
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["perceive-to-reason"] = "perceive-to-reason"


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[ListedModel]
