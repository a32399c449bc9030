"""The bodies of `/v1/responses`, as in OpenAI's reference."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from rlm_agent.serve.options import Bound, Common, Effort, Lenient, Message
from rlm_agent.serve.reports import SearchReport


class Item(Message):
    """A message among the items of the input."""

    type: Literal["message"] = "message"


class ThoughtItem(Lenient):
    """The reasoning of an earlier response, sent back; it is not read."""

    type: Literal["reasoning"]


class TextFormat(Lenient):
    """Text is all there is."""

    type: Literal["text"]


class TextOptions(Lenient):
    """How the text is to be."""

    format: TextFormat | None = None


class Reasoning(Lenient):
    """How much the search may spend, see `EFFORTS`."""

    effort: Effort | None = None


class ResponseRequest(Common):
    """The body of a request. Nothing is stored, so that there is no `previous_response_id`."""

    input: Annotated[str, Field(min_length=1)] | Annotated[list[Item | ThoughtItem], Field(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Bound | None = None
    reasoning: Reasoning | None = None
    text: TextOptions | None = None
    include: list[str] | None = None
    background: Literal[False] | None = None
    truncation: Literal["auto", "disabled"] | None = None


class ReasoningText(BaseModel):
    """The steps to the answer."""

    type: Literal["reasoning_text"] = "reasoning_text"
    text: str


class ReasoningItem(BaseModel):
    """The reasoning that stands beside the answer."""

    type: Literal["reasoning"] = "reasoning"
    id: str
    status: Literal["in_progress", "completed"] = "completed"
    summary: list[Any] = []
    content: list[ReasoningText]


class OutputText(BaseModel):
    """The answer."""

    type: Literal["output_text"] = "output_text"
    text: str
    annotations: list[Any] = []
    logprobs: list[Any] = []


class MessageItem(BaseModel):
    """The assistant's turn."""

    type: Literal["message"] = "message"
    id: str
    role: Literal["assistant"] = "assistant"
    status: Literal["in_progress", "completed"] = "completed"
    content: list[OutputText]


class InputDetails(BaseModel):
    """`cached_tokens` were computed before."""

    cached_tokens: int


class OutputDetails(BaseModel):
    """All that a search writes is reasoning: the answer is read off it."""

    reasoning_tokens: int


class ResponseUsage(BaseModel):
    """The usage of the search, dead ends included."""

    input_tokens: int
    input_tokens_details: InputDetails
    output_tokens: int
    output_tokens_details: OutputDetails
    total_tokens: int


class Incomplete(BaseModel):
    """Why there is no answer."""

    reason: Literal["max_output_tokens"]


class ResponseBody(BaseModel):
    """A response, as far as it is there."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    model: str
    output: list[ReasoningItem | MessageItem] = []
    usage: ResponseUsage | None = None
    error: Any = None
    incomplete_details: Incomplete | None = None
    instructions: str | None = None
    metadata: dict[str, Any] = {}
    parallel_tool_calls: bool = False
    temperature: float | None = None
    tool_choice: Literal["none"] = "none"
    tools: list[Any] = []
    top_p: float | None = None
    max_output_tokens: int | None = None
    previous_response_id: None = None
    store: bool = False
    background: bool = False
    truncation: str = "disabled"
    rlm: SearchReport | None = None
