"""What every `create_*` takes beside its own parameters, and how it becomes the parts of a search."""

from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

from langchain_core.language_models import BaseChatModel
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.store.base import BaseStore
from langgraph.types import All

from rlm_agent.graphs.machine.memory import Memory
from rlm_agent.graphs.machine.policies import Retry
from rlm_agent.graphs.machine.review import Review, review_of
from rlm_agent.graphs.machine.rules import Parts, Reasoner, Rules
from rlm_agent.graphs.machine.skeleton import compile_search
from rlm_agent.models.awaited import Awaited
from rlm_agent.models.prompts import prompts_of
from rlm_agent.models.protocols import Decoding, Policy, Preference, Value
from rlm_agent.models.resolve import load_policy, load_value
from rlm_agent.models.retrieval import as_retrieval
from rlm_agent.operators.rules.observations import observing, with_delimiter
from rlm_agent.structure.budget import Budget
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.steps import Steps, Verifier
from rlm_agent.structure.wholes import in_one
from rlm_agent.tasks.answers import free_answer
from rlm_agent.tasks.registry import get_task

Model = str | Path | Policy | BaseChatModel
Judge = str | Path | Value | BaseChatModel
DEFAULT_BUDGET = Budget(tokens=4000)
_COMPILING = ("checkpointer", "store", "interrupt_before", "interrupt_after", "debug")


class Common(TypedDict, total=False):
    """The keywords that all strategies share; all are optional.

    value: judges unfinished chains: a `Value`, `"head"` (the model's own value head), `"label"` (the model's
        own word for it), `"arithmetic"` (whether what the steps compute is so), `"support"` (whether what
        they say was read), `"rollout:4"` (the share of right ends among four), the path of a `.gguf`, or such
        a path in the format of a process reward model (`"math_shepherd:PATH"`), or a chat model of LangChain,
        which is asked for grades; without one, strategies fall back as their docstrings say.
    preference: compares two chains, where a strategy asks for that; by default the policy, asked in words.
    verifier: judges answers, seeing the question and the answer only; a task's name stands for its own.
    steps: how text is cut into steps and checked; a task's name stands for its own.
        A specialist model such as `mini` brings both with it.
    tools: what a thought may call, for strategies that act: a list of LangChain tools, callables of one text
        and `Tool`s, see `tools.wrapping.as_tool`, or a `Toolbox` with its own limits.
    approve: which calls of tools wait for somebody's approval: `"never"` (default), `"effects"`, those of
        tools with effects, or `"all"`; see `graphs.shared.acting.Interrupting`.
    retriever: what passages come from: a `Retriever`, a LangChain `BaseRetriever`, or a `Retrieval`, which
        says when it is asked. Strategies that act ask it where a thought does, others once, with the
        question, before the search; `graphs.shared.retrieving` has the rules.
    system_prompt: for general models; the default asks for steps and an answer in the form that `steps` has,
        by default one step a line and a boxed answer.
    budget: of one question; the default is 4,000 generated tokens.
    seed: decides every draw; without one, it is drawn once and stored with the run.
    checkpointer, store, interrupt_before, interrupt_after, debug: LangGraph's, as in `create_agent`.
    review: when the search stops for a human, who may approve, edit, prune, add and re-value: a `Review`, or
        `"answer"`, `"round"` or `"tie"`; see `graphs.machine.review`. It needs a checkpointer.
    memory: what is kept in the store of solved problems and lessons, and shown for later ones, see `Memory`.
    retry: what a node does where a model or a retriever is out of reach: LangGraph's `RetryPolicy`, one or
        several; by default `graphs.machine.policies.RETRY`, three attempts; False ends the run, which can be
        resumed.
    name: of the compiled graph and of its replies; the default is the strategy's.
    temperature, top_k, top_p, min_p: of the policy's decoding; the defaults are what the model recommends.
    grammar: in GBNF, what each step has to be; for models in this process.
    stop_when_verified: end at the first answer that the verifier accepts (default); a chain that merely
        ends never stops a search.
    """

    value: Judge | None
    preference: Preference | None
    verifier: Verifier | str | None
    steps: Steps | str | None
    tools: Any
    approve: str
    retriever: Any
    system_prompt: str | None
    budget: Budget | None
    seed: int | None
    checkpointer: BaseCheckpointSaver[Any] | bool | None
    store: BaseStore | None
    memory: Memory | None
    interrupt_before: All | list[str] | None
    interrupt_after: All | list[str] | None
    debug: bool
    review: Review | str | None
    retry: Retry
    name: str | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    grammar: str | None
    stop_when_verified: bool


def build(
    strategy: str,
    model: Model,
    rules: Rules,
    common: Common,
    *,
    whole: Steps | None = None,
    **decoding: float,
) -> Reasoner:
    """Compile a strategy from its rules; `decoding` holds what it sets itself unless the caller does.

    See `parts_of` for `whole`.
    """
    parts = parts_of(strategy, model, common, decoding, whole=whole)
    return compile_search(
        common.get("name") or strategy,
        f"{strategy}, retrieving {parts.retrieval.identity} before" if parts.retrieval else strategy,
        rules,
        parts,
        retry=common.get("retry", True),
        review=_review(common),
        **compiling(common),
    )


def _review(common: Common) -> Review | None:
    review = review_of(common.get("review"))
    if review is not None and common.get("checkpointer") is False:
        raise InputError("a search that is not stored cannot wait for a review; leave review out")
    return review


def compiling(common: Common) -> dict[str, Any]:
    """What of the keywords is for LangGraph's `compile`."""
    return {name: value for name, value in common.items() if name in _COMPILING}


def parts_of(
    strategy: str, model: Model, common: Common, decoding: dict[str, float], *, whole: Steps | None = None
) -> Parts:
    """What a strategy is made with.

    With `whole`, a step is a whole solution: of the task's steps where there is a task, else as `whole` says,
    unless the caller gives `Steps`. Raises `InputError` for keywords that the strategy does not take.
    """
    if common.get("tools"):
        raise InputError(f"the strategy {strategy!r} takes no tools in this version; leave tools out")
    retrieval = as_retrieval(common.get("retriever"))
    if retrieval is not None and retrieval.when not in (None, "once"):
        raise InputError(f"the strategy {strategy!r} retrieves before its search alone; say when='once'")
    policy = load_policy(model)
    named = common.get("verifier") or policy.task
    verifier = get_task(named).verifier if isinstance(named, str) else named
    steps = _steps(common.get("steps") or policy.task, whole)
    if retrieval is not None:
        steps = observing(with_delimiter(steps))
    return Parts(
        policy=policy,
        steps=steps,
        budget=common.get("budget") or DEFAULT_BUDGET,
        value=_value(common, policy, steps, verifier),
        preference=common.get("preference"),
        prompts=prompts_of(policy),
        verifier=verifier,
        retrieval=retrieval,
        memory=common.get("memory"),
        decoding=_decoding(policy, common, decoding),
        system_prompt=common.get("system_prompt") or steps.instruction,
        seed=common.get("seed"),
        stop_when_verified=common.get("stop_when_verified", True),
    )


def _value(common: Common, policy: Policy, steps: Steps, verifier: Verifier | None) -> Value | None:
    """The value among the keywords; one that is named comes with the policy, if that is awaited."""
    named = common.get("value")
    if isinstance(policy, Awaited) and isinstance(named, str):
        return policy
    return load_value(named, policy, steps, verifier)


def _steps(named: Steps | str | None, whole: Steps | None) -> Steps:
    if not isinstance(named, str):
        return named or whole or Steps(answer=free_answer)
    steps = get_task(named).steps
    return steps if whole is None else in_one(steps)


def _decoding(policy: Policy, common: Common, own: dict[str, float]) -> Decoding:
    given: dict[str, Any] = {name: value for name, value in common.items() if hasattr(policy.decoding, name)}
    decoding = replace(policy.decoding, **{**own, **given})
    if decoding.temperature < 0 or decoding.top_k < 0 or not 0 < decoding.top_p <= 1 or decoding.min_p < 0:
        raise InputError(
            f"{decoding} draws nothing; temperature, top_k and min_p are at least 0, top_p is in (0, 1]"
        )
    return decoding
