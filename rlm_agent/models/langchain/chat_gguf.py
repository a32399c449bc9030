"""The engine as a chat model of LangChain, with tools and structured output by grammar."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import (
    BaseChatModel,
    agenerate_from_stream,
    generate_from_stream,
)
from langchain_core.language_models.model_profile import ModelProfile
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.output_parsers import BaseOutputParser, JsonOutputParser, PydanticOutputParser
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import ConfigDict

from rlm_agent.models.gguf.loading import load_file
from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.models.langchain.asking import Asked, Parameters, Said, asked, named
from rlm_agent.models.langchain.conversation import Tooling, choice_of, conversation, offered
from rlm_agent.models.protocols import Policy
from rlm_agent.structure.errors import InputError, UnknownNameError

Method = Literal["json_schema", "function_calling", "json_mode"]


class ChatGGUF(BaseChatModel, Parameters):
    """A GGUF file as a chat model; it runs in this process, beside all else that the engine is asked.

    model: `"mini"`, the path of a `.gguf`, or a `GGUFPolicy`, which says how the file is loaded. What is
        loaded by name is shared with searches.
    temperature, top_k, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty, logit_bias: see
        `Decoding`; what is None is as the model recommends.
    max_tokens: of an answer; the model's context bounds it, too.
    stop: texts that end an answer and are not part of it.
    seed: decides every draw; None draws a new one for each call.
    grammar: in GBNF, what an answer has to be.
    logprobs, top_logprobs: put OpenAI's `logprobs` into the `response_metadata`, with so many alternatives.
    timeout: seconds for a call, after which it ends with a `TimeoutError`.

    All may be given for one call, too, as may `model`, `tools`, `tool_choice`, `parallel_tool_calls` and
    `response_format`, in OpenAI's form. A conversation that ends in an assistant's message is gone on with
    from there. Errors are those of `asking.asked`, and `ModelFileError` for a file that cannot be loaded.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    model: Any = "mini"
    streaming: bool = False

    def __init__(self, model: str | Path | GGUFPolicy = "mini", **fields: Any) -> None:
        """Loads the model, if nobody has."""
        _local(model)  # before pydantic, which would wrap the error
        super().__init__(**{"model": model, **fields})

    @property
    def policy(self) -> GGUFPolicy:
        """The same model as a policy of searches."""
        return _local(self.model)

    @property
    def model_name(self) -> str:
        """What it is called in traces."""
        return named(self.policy.file.path)

    @property
    def _llm_type(self) -> str:
        return "gguf"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return {"identity": self.policy.identity, **self._said()}

    def _resolve_model_profile(self) -> ModelProfile:
        policy = self.policy
        return ModelProfile(
            name=self.model_name,
            max_input_tokens=policy.engine.longest,
            max_output_tokens=policy.engine.longest,
            text_inputs=True,
            image_inputs=False,
            audio_inputs=False,
            text_outputs=True,
            tool_calling=policy.task is None,
            tool_choice=policy.task is None,
            structured_output=True,
        )

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        if not isinstance(kwargs.get("model"), str):
            params["ls_model_name"] = self.model_name
        return params

    # --- answers --------------------------------------------------------------------------------------------

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, **kwargs))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return await agenerate_from_stream(self._astream(messages, stop, **kwargs))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        one = self._asked(messages, stop, kwargs)
        for heard in one.policy.engine.stream([one.job], timeout=one.timeout):
            yield from one.read(heard)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        one = self._asked(messages, stop, kwargs)
        async for heard in one.policy.engine.astream([one.job], timeout=one.timeout):
            for chunk in one.read(heard):
                yield chunk

    def _asked(self, messages: list[BaseMessage], stop: list[str] | None, kwargs: dict[str, Any]) -> Asked:
        policy = _local(kwargs.pop("model", self.model))
        said = Said().but({**self._said(), **kwargs})
        return asked(policy, messages, said if stop is None else said.but({"stop": stop}))

    def _said(self) -> dict[str, Any]:
        """What was said of all calls."""
        return {name: getattr(self, name) for name in Parameters.model_fields}

    # --- tools and schemas ----------------------------------------------------------------------------------

    def bind_tools(
        self,
        tools: Sequence[Tooling],
        *,
        tool_choice: Mapping[str, Any] | str | bool | None = None,
        parallel_tool_calls: bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with tools, whose calls a grammar holds to their schemas; so `strict` has no effect.

        tool_choice: `"auto"` (default), `"any"`, `"none"`, or the name of the tool to call.
        parallel_tool_calls: whether there may be several calls in an answer (default).
        Raises `InputError` for another choice; tools that no grammar can be made of are refused when the
        model is called.
        """
        defined, choice = offered(tools), choice_of(tool_choice)
        names = [tool["function"]["name"] for tool in defined]
        if choice not in ("auto", "required", "none", *names):
            raise InputError(f"tool_choice={choice!r} is no tool here; choose one of {', '.join(names)}")
        return self.bind(tools=defined, tool_choice=choice, parallel_tool_calls=parallel_tool_calls, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: Method = "json_schema",
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """The model, its answers after `schema`: a Pydantic class, a TypedDict or a JSON schema.

        method: a grammar of the schema (`"json_schema"`), or of a call of a tool of that schema
            (`"function_calling"`); `"json_mode"` forces any JSON object and leaves the rest to the model.
        include_raw: put out `raw`, `parsed` and `parsing_error` instead, and raise nothing while parsing.
        kwargs: other parameters of the calls.
        """
        if method == "function_calling":
            Said().but(kwargs)
            model = self.model_copy(update=kwargs)
            return super(ChatGGUF, model).with_structured_output(schema, include_raw=include_raw)
        if method not in ("json_schema", "json_mode"):
            raise UnknownNameError(f"there is no method {method!r}; use json_schema or function_calling")
        form: dict[str, Any] = {"type": "json_object"}
        if method == "json_schema":
            wanted = convert_to_json_schema(schema)
            form = {
                "type": "json_schema",
                "json_schema": {"name": wanted.get("title", "answer"), "schema": wanted},
            }
        bound = self.bind(
            response_format=form,
            ls_structured_output_format={"kwargs": {"method": method}, "schema": schema},
            **kwargs,
        )
        parser = _parser(schema)
        return _beside(bound, parser) if include_raw else bound | parser

    # --- counting -------------------------------------------------------------------------------------------

    def get_token_ids(self, text: str) -> list[int]:
        """The model's own tokens of a text."""
        return self.policy.file.tokenize(text)

    def get_num_tokens_from_messages(
        self, messages: Sequence[BaseMessage], tools: Sequence[Tooling] | None = None
    ) -> int:
        """How many tokens a conversation has as a prompt, with its template's own and those of tools."""
        talk = conversation(messages)
        start = self.policy.template.tokens(talk.turns, tools=offered(tools or ()))
        return len(start) + len(self.get_token_ids(talk.prefix))


def _local(model: str | Path | Policy) -> GGUFPolicy:
    if isinstance(model, str | Path):
        return load_file(str(model))
    if not isinstance(model, GGUFPolicy):
        raise InputError(
            f"ChatGGUF runs GGUF files, and no {type(model).__name__}; give a path or a GGUFPolicy"
        )
    return model


def _parser(schema: dict[str, Any] | type) -> BaseOutputParser[Any]:
    if isinstance(schema, type) and is_basemodel_subclass(schema):
        return PydanticOutputParser(pydantic_object=schema)
    return JsonOutputParser()


def _beside(
    model: Runnable[LanguageModelInput, AIMessage], parser: BaseOutputParser[Any]
) -> Runnable[LanguageModelInput, Any]:
    """What the model said beside what was made of it."""
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=model) | parsed.with_fallbacks([failed], exception_key="parsing_error")
