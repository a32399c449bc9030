"""What tracers see of the models in this process: a run for each completion, with its tokens.

LangSmith and OpenTelemetry see a chat model of LangChain by themselves, and an inner reasoner as a graph; a
policy of our own is a function to them. Runs hang below the run of the node, and only tracers hear of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from langchain_core.callbacks import BaseCallbackManager, CallbackManager, CallbackManagerForLLMRun
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers.base import BaseTracer

from rlm_agent.models.drive import Asking, Generate
from rlm_agent.models.langchain.chat_policy import ChatModelPolicy
from rlm_agent.models.langchain.messages import as_langchain
from rlm_agent.models.protocols import Completion, Policy, Request, is_composite

T = TypeVar("T")


def traced(asking: Asking[T], config: RunnableConfig | None) -> Asking[T]:
    """The same computation, its completions told to the tracers of a node's run, if there are any."""
    callbacks = (config or {}).get("callbacks")
    if not isinstance(callbacks, BaseCallbackManager):
        return asking
    tracers = [handler for handler in callbacks.handlers if isinstance(handler, BaseTracer)]
    return _told(asking, _Tracing(callbacks, tracers)) if tracers else asking


def _told(asking: Asking[T], tracing: "_Tracing") -> Asking[T]:
    reply: Any = None
    while True:
        try:
            question = asking.send(reply)
        except StopIteration as stop:
            result: T = stop.value
            return result
        runs = tracing.begin(question) if isinstance(question, Generate) else []
        try:
            reply = yield question
        except GeneratorExit as closed:  # nobody sends a reply where the model has raised
            for run in runs:
                run.on_llm_error(closed.__context__ or closed)
            raise
        for run, completion in zip(runs, reply, strict=False):
            _end(run, completion)


@dataclass(frozen=True, slots=True)
class _Tracing:
    """The tracers of a node's run."""

    callbacks: BaseCallbackManager
    tracers: Sequence[BaseTracer]

    def begin(self, question: Generate) -> list[CallbackManagerForLLMRun]:
        """A run for each completion that is asked for, unless others tell of them."""
        if isinstance(question.policy, ChatModelPolicy) or is_composite(question.policy):
            return []
        return [self._begun(question.policy, request) for request in question.requests]

    def _begun(self, policy: Policy, request: Request) -> CallbackManagerForLLMRun:
        metadata = {
            **self.callbacks.inheritable_metadata,
            "rlm_node": request.thought,
            "rlm_operator": request.operator,
            "ls_provider": "rlm-agent",
            "ls_model_name": policy.identity,
            "ls_model_type": "chat",
            "ls_temperature": request.decoding.temperature,
            "ls_max_tokens": request.max_tokens,
            "ls_stop": list(request.stop),
        }
        manager = CallbackManager(
            handlers=list(self.tracers),
            parent_run_id=self.callbacks.parent_run_id,
            tags=[*self.callbacks.inheritable_tags, "rlm-agent"],
            metadata={name: value for name, value in metadata.items() if value is not None},
        )
        messages: list[BaseMessage] = [*as_langchain(request.messages)]
        begun = [AIMessage(request.prefix)] if request.prefix else []
        (run,) = manager.on_chat_model_start({"name": type(policy).__name__}, [[*messages, *begun]])
        return run


def _end(run: CallbackManagerForLLMRun, completion: Completion) -> None:
    if completion.error is not None:
        run.on_llm_error(RuntimeError(completion.error))
        return
    read = completion.prompt_tokens + completion.cached_tokens
    usage = UsageMetadata(
        input_tokens=read,
        output_tokens=completion.tokens,
        total_tokens=read + completion.tokens,
        input_token_details={"cache_read": completion.cached_tokens},
    )
    message = AIMessage(
        completion.text, usage_metadata=usage, response_metadata={"finish_reason": completion.finish}
    )
    run.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]))
