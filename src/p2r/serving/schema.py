"""Requests and replies of the OpenAI chat protocol.

Requests are read leniently: an unknown field is accepted and has no effect, and the reply lists its path in
`p2r.ignored` unless its value is empty. Refused are fields that would change the meaning of the reply and are
not served (`UNSERVED`), and unknown options in `p2r`.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

ModelName = Literal["p2r", "p2r-think", "p2r-direct", "p2r-letter"]
FinishReason = Literal["stop", "length", "tool_calls"]
MODEL_NAMES: tuple[ModelName, ...] = get_args(ModelName)
NO_LOGPROBS = "log probabilities are not served: leave it out"
_USE_RESPONSE_FORMAT = "give the form of the answer as a JSON schema in response_format"


class OpenModel(BaseModel):
    """A part of a request, in which unknown fields are kept."""

    model_config = ConfigDict(extra="allow", strict=True)


class TextPart(OpenModel):
    """A text of a message."""

    type: Literal["text", "input_text", "output_text"]
    text: str


class ImageUrl(OpenModel):
    """Where an image is: a `data:` URI, or an `http(s)` address of an allowed host."""

    url: str


class ImagePart(OpenModel):
    """An image of a message."""

    type: Literal["image_url", "input_image"]
    image_url: Annotated[ImageUrl | str, Field(union_mode="left_to_right")]


# Parts of other kinds are kept as they are: earlier turns may hold anything.
Part = Annotated[TextPart | ImagePart | Any, Field(union_mode="left_to_right")]
Content = Annotated[str | list[Part] | Any, Field(union_mode="left_to_right")]


class Message(OpenModel):
    """One turn. The newest text of the user is the question, about the images of the newest turn with any."""

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
    """A region of an image: corners `[x0, y0, x1, y1]` in 0–1000, a label, and which image, from 0."""

    model_config = ConfigDict(extra="forbid")

    box: tuple[float, float, float, float]
    label: str = Field(default="", max_length=200)
    image: int = Field(default=0, ge=0)
    zoom: float = Field(default=1, ge=1, description="Of a box of a closer look: its crop has less context.")


class Options(BaseModel):
    """How the method answers this request."""

    model_config = ConfigDict(extra="forbid", strict=True)

    mode: Literal["p2r", "think", "direct"] | None = Field(
        default=None, description="Instead of the model's."
    )
    answer_type: Literal["number", "free"] | None = Field(default=None, description="Without options.")
    max_evidence: int | None = Field(default=None, ge=1, description="The most regions to zoom into.")
    looks: int | None = Field(default=None, ge=1, description="How many levels of looks; 1 looks once.")
    overview_max_pixels: int | None = Field(default=None, ge=1, description="Of the whole image.")
    crop_max_pixels: int | None = Field(default=None, ge=1, description="Of each region.")
    boxes: list[GivenBox] | None = Field(
        default=None, max_length=32, description="Known evidence: the perceiver is not called."
    )
    include_images: bool | None = Field(default=None, description="Send them in the reply.")


class Fields(NamedTuple):
    """The fields of a request that both protocols have, under different names.

    Attributes:
        turns: the conversation.
        max_tokens: the most tokens of the answer.
        format_path, answer_format: the path of the schema of the answer, and the value that holds it.
        stop: texts at which the answer ends.
        include_usage: a stream ends with the usage.
    """

    turns: list[Turn]
    max_tokens: int | None
    format_path: str
    answer_format: Any
    stop: tuple[str, ...] = ()
    include_usage: bool = False


class AskRequest(OpenModel):
    """The fields that both protocols have under the same name.

    Attributes:
        UNSERVED: fields that would change the reply and are not served: the reason, and the values that have
            no effect besides null, false and empty ones.
    """

    UNSERVED: ClassVar[dict[str, tuple[str, tuple[Any, ...]]]] = {}

    model: str = Field(description="p2r, p2r-think, p2r-direct or p2r-letter")
    stream: bool | None = None
    tools: Any = Field(None, description="A function that tool_choice forces sets the form of the answer.")
    tool_choice: Any = None
    p2r: Options | None = None

    def fields(self) -> Fields:
        """The rest, in one shape for both protocols."""
        raise NotImplementedError


class ChatRequest(AskRequest):
    """A question about an image."""

    UNSERVED = {
        "n": ("one question has one answer: leave it out, or give 1", (1,)),
        "logprobs": (NO_LOGPROBS, ()),
        "top_logprobs": (NO_LOGPROBS, (0,)),
        "modalities": ("the answer is a text: leave it out", (["text"],)),
        "function_call": ("force a function with tools and tool_choice instead", ("none", "auto")),
        **dict.fromkeys(
            ("guided_json", "guided_choice", "guided_regex", "guided_grammar", "structured_outputs"),
            (_USE_RESPONSE_FORMAT, ()),
        ),
    }

    messages: list[Message] = Field(min_length=1, max_length=1_000)
    max_tokens: int | None = Field(None, ge=1, description="Limits the answer, not the stages before it.")
    max_completion_tokens: int | None = Field(None, ge=1)
    stream_options: StreamOptions | None = None
    response_format: Any = Field(None, description="text, json_object, or json_schema for one value.")
    stop: str | list[str] | None = Field(None, description="Ends the text of the answer.")

    def fields(self) -> Fields:
        """See `AskRequest`."""
        answer_format = self.response_format
        inner = answer_format.get("json_schema") if isinstance(answer_format, dict) else None
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Fields(
            [
                Turn(f"messages.{index}", f"messages.{index}.content", message)
                for index, message in enumerate(self.messages)
            ],
            self.max_completion_tokens or self.max_tokens,
            "response_format.json_schema.schema",
            {**inner, **answer_format} if isinstance(inner, dict) else answer_format,
            tuple(filter(None, stops)),
            bool(self.stream_options and self.stream_options.include_usage),
        )


class FoundBox(BaseModel):
    """A region that the perceiver found: corners `[x0, y0, x1, y1]` in 0–1000, its label, and its image."""

    box: list[float]
    label: str
    image: int = 0
    zoom: float = 1

    @model_serializer(mode="wrap")
    def _as_in_records(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # The first image and the first look are not named, as in `Box.to_json`.
        usual = {"image": 0, "zoom": 1}
        return {name: value for name, value in plain(self).items() if usual.get(name) != value}


class FoundLook(BaseModel):
    """A look at a region `[x0, y0, x1, y1]` in 0–1000, which followed from the look `parent`."""

    region: list[float]
    parent: int | None
    text: str
    outcome: Literal["boxes", "whole", "malformed"]
    boxes: list[FoundBox]
    image: int


class Images(BaseModel):
    """The images of the reasoner, as `data:` URIs; `others` are the overviews of further images."""

    overview: str
    crops: list[str]
    others: list[str] = []


class P2RExtension(BaseModel):
    """How a question was answered.

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
    looks: list[FoundLook] = []
    stopped: str = ""
    images: Images | None = None
    result: str | None = Field(None, description="Of an uploaded image: the id of the result on the page.")

    @model_serializer(mode="wrap")
    def _as_in_records(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Where one look was allowed, there are none, as in `Prediction.to_json`.
        unused = () if self.looks else ("looks", "stopped")
        return {name: value for name, value in plain(self).items() if name not in unused}


class Reply(BaseModel):
    """The message of the answer. `refusal` is the reason if there is no answer in the requested form."""

    role: Literal["assistant"] = "assistant"
    content: str | None
    reasoning_content: str
    refusal: str | None = None
    p2r: P2RExtension


class FunctionCall(BaseModel):
    """The name of a function, and its arguments as JSON text."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """The call of the forced function."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class ToolReply(Reply):
    """The message of an answer that is the arguments of a function."""

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
    """One of the models that can be requested."""

    id: ModelName
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["perceive-to-reason"] = "perceive-to-reason"


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[ListedModel]
