"""The bodies of `/v1/chat/completions`, as in OpenAI's reference."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from rlm_agent.serve.options import Body, Bound, Common, Effort, Lenient, Message, Seed
from rlm_agent.serve.reports import Reason, SearchReport

Stop = Annotated[str, Field(min_length=1, max_length=500)]


class StreamOptions(Body):
    """`include_usage` asks for a last chunk with the usage."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ResponseFormat(Lenient):
    """Text is all there is; a form is forced on steps, not on answers."""

    type: Literal["text"]


class ChatRequest(Common):
    """The body of a request. What would change the answer and cannot be done is refused."""

    messages: Annotated[
        list[Message], Field(min_length=1, examples=[[{"role": "user", "content": "4 9 10 13 : 24"}]])
    ]
    max_tokens: Bound | None = None
    max_completion_tokens: Bound | None = None
    n: Bound | None = None
    seed: Seed | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    stream_options: StreamOptions | None = None
    reasoning_effort: Effort | None = None
    response_format: ResponseFormat | None = None
    verbosity: Literal["low", "medium", "high"] | None = None
    modalities: list[Literal["text"]] | None = None
    logprobs: Literal[False] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None


class PromptDetails(BaseModel):
    """`cached_tokens` were computed before."""

    cached_tokens: int


class CompletionDetails(BaseModel):
    """All that a search writes is reasoning: the answer is read off it."""

    reasoning_tokens: int


class ChatUsage(BaseModel):
    """The usage of all searches of a request, dead ends included."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class Answer(BaseModel):
    """The answer, and the steps that lead to it."""

    role: Literal["assistant"] = "assistant"
    content: str
    reasoning_content: str | None = None
    refusal: None = None


class Choice(BaseModel):
    """One search's reply."""

    index: int
    message: Answer
    finish_reason: Reason
    logprobs: None = None
    rlm: SearchReport


class ChatCompletion(BaseModel):
    """The reply, when all of it is there."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[Choice]
    usage: ChatUsage


class Delta(BaseModel):
    """A piece of a message."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    reasoning_content: str | None = None


class ChunkChoice(BaseModel):
    """A piece of a choice."""

    index: int
    delta: Delta
    finish_reason: Reason | None = None
    rlm: SearchReport | None = None


class ChatChunk(BaseModel):
    """A piece of a reply."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChunkChoice]
    usage: ChatUsage | None = None
