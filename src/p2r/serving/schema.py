"""What arrives and what is sent: the part of the OpenAI chat protocol that is spoken here, as models.

Requests are read leniently. A field that is not named here is accepted and has no effect; the reply lists
its path in `p2r.ignored`, unless its value asks for nothing. Refused is what would change the meaning of the
reply and cannot be served (`UNSERVED`), and a misspelt option of our own (`p2r`).
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field

ModelName = Literal["p2r", "p2r-think", "p2r-direct", "p2r-letter"]
FinishReason = Literal["stop", "length", "tool_calls"]
MODEL_NAMES: tuple[ModelName, ...] = get_args(ModelName)


class OpenModel(BaseModel):
    """A part of a request, in which unknown fields are kept."""

    model_config = ConfigDict(extra="allow", strict=True)


class TextPart(OpenModel):
    """A text of a message."""

    type: Literal["text", "input_text", "output_text"]
    text: str


class ImageUrl(OpenModel):
    """Where an image is: a `data:` URI, or an `http(s)` address of a host that the operator allows."""

    url: str


class ImagePart(OpenModel):
    """An image of a message."""

    type: Literal["image_url", "input_image"]
    image_url: Annotated[ImageUrl | str, Field(union_mode="left_to_right")]

    @property
    def url(self) -> str:
        """Where the image is."""
        return self.image_url if isinstance(self.image_url, str) else self.image_url.url


# Earlier turns may hold anything: what is neither a text nor an image is kept as it came.
Part = Annotated[TextPart | ImagePart | Any, Field(union_mode="left_to_right")]
Content = Annotated[str | list[Part] | Any, Field(union_mode="left_to_right")]


class Message(OpenModel):
    """One turn. The newest text of the user is the question, and the newest image is the one asked about."""

    role: str
    content: Content = None


class Turn(NamedTuple):
    """A message, and the paths of it and of its content in the request."""

    path: str
    content_path: str
    message: Message


class StreamOptions(OpenModel):
    """Options of a stream."""

    include_usage: bool | None = None


class GivenBox(BaseModel):
    """A region of the image: corners `[x0, y0, x1, y1]` in 0–1000, and what is there."""

    model_config = ConfigDict(extra="forbid")

    box: tuple[float, float, float, float]
    label: str = Field(default="", max_length=200)


class Options(BaseModel):
    """How the method answers this request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    mode: Literal["p2r", "think", "direct"] | None = Field(
        default=None, description="Overrides that of the model."
    )
    answer_type: Literal["number", "free"] | None = Field(
        default=None, description="Of a question without options."
    )
    max_evidence: int | None = Field(default=None, ge=1, description="The most regions to zoom into.")
    overview_max_pixels: int | None = Field(
        default=None, ge=1, description="The most pixels of the whole image."
    )
    crop_max_pixels: int | None = Field(default=None, ge=1, description="The most pixels of each region.")
    boxes: list[GivenBox] | None = Field(
        default=None,
        max_length=32,
        description="Evidence that is known already: the perceiver is not asked.",
    )
    include_images: bool | None = Field(
        default=None, description="Send the outlined image and the regions back."
    )


class AskRequest(OpenModel):
    """What the requests of both endpoints have in common.

    Attributes:
        UNSERVED: fields that change what is returned and cannot be served: why, and the values that ask for
            nothing beside null, false and what is empty.
    """

    UNSERVED: ClassVar[dict[str, tuple[str, tuple[Any, ...]]]] = {}

    model: str = Field(description="p2r, p2r-think, p2r-direct or p2r-letter")
    stream: bool | None = None
    tools: Any = Field(
        None, description="One function that is forced by tool_choice gives the answer's form."
    )
    tool_choice: Any = None
    p2r: Options | None = None

    @property
    def turns(self) -> list[Turn]:
        """The conversation."""
        raise NotImplementedError

    @property
    def answer_tokens(self) -> int | None:
        """The most tokens of the answer."""
        raise NotImplementedError

    @property
    def answer_format(self) -> tuple[str, Any]:
        """The path of the schema that the answer is to have, and the format that holds it."""
        raise NotImplementedError

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts at which the answer ends."""
        return ()

    @property
    def stream_usage(self) -> bool | None:
        """Whether a stream ends with the usage; None where nothing was said about it."""
        return None

    @property
    def options(self) -> Options:
        """Our own options."""
        return self.p2r or Options()


NO_PROBABILITIES = "there are no probabilities of tokens: leave it out"
_USE_RESPONSE_FORMAT = "give the form of the answer as a JSON schema in response_format"


class ChatRequest(AskRequest):
    """A question about an image."""

    UNSERVED = {
        "n": ("one question has one answer: leave it out, or give 1", (1,)),
        "logprobs": (NO_PROBABILITIES, ()),
        "top_logprobs": (NO_PROBABILITIES, (0,)),
        "modalities": ("the answer is a text: leave it out", (["text"],)),
        "function_call": ("force a function with tools and tool_choice instead", ("none", "auto")),
        **dict.fromkeys(
            ("guided_json", "guided_choice", "guided_regex", "guided_grammar", "structured_outputs"),
            (_USE_RESPONSE_FORMAT, ()),
        ),
    }

    messages: list[Message] = Field(min_length=1, max_length=1_000)
    max_tokens: int | None = Field(None, ge=1, description="Bounds the answer, not the stages before it.")
    max_completion_tokens: int | None = Field(None, ge=1)
    stream_options: StreamOptions | None = None
    response_format: Any = Field(None, description="text, json_object, or json_schema for one value.")
    stop: str | list[str] | None = Field(None, description="Ends the text of the answer.")

    @property
    def turns(self) -> list[Turn]:
        """See `AskRequest`."""
        paths = (f"messages.{index}" for index in range(len(self.messages)))
        return [
            Turn(path, f"{path}.content", message) for path, message in zip(paths, self.messages, strict=True)
        ]

    @property
    def answer_tokens(self) -> int | None:
        """See `AskRequest`; given in either of two fields."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def answer_format(self) -> tuple[str, Any]:
        """See `AskRequest`."""
        given = self.response_format
        inner = given.get("json_schema") if isinstance(given, dict) else None
        path = "response_format.json_schema.schema"
        return path, {**inner, **given} if isinstance(inner, dict) else given

    @property
    def stops(self) -> tuple[str, ...]:
        """See `AskRequest`."""
        texts = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(text for text in texts if text)

    @property
    def stream_usage(self) -> bool | None:
        """See `AskRequest`."""
        return self.stream_options.include_usage if self.stream_options else None


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
    result: str | None = Field(None, description="Of an uploaded image: the id of the result on the page.")


class Reply(BaseModel):
    """The message of the answer. `refusal` says why there is none in the form that was asked for."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    reasoning_content: str
    refusal: str | None = None
    p2r: Looked


class FunctionCall(BaseModel):
    """Which function is called, and its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """The call of the function that was to be called."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class ToolReply(Reply):
    """The message of an answer that is handed to a function."""

    tool_calls: list[ToolCall]


class Choice(BaseModel):
    """The one answer."""

    index: Literal[0] = 0
    message: ToolReply | Reply
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
