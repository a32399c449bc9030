"""Graph of Thoughts: a graph of operations that the user draws, each of them a node, run with joins.

Source: Besta et al., arXiv 2308.09687, and the authors' code for what that leaves open.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from langgraph.graph import END, START
from typing_extensions import Unpack

from rlm_agent.graphs.machine.common import Common, Model, compiling, parts_of
from rlm_agent.graphs.machine.graph import SearchGraph, takes_context
from rlm_agent.graphs.machine.layout import kept_answer, lay_out, operations_state
from rlm_agent.graphs.machine.operations import OperationNodes
from rlm_agent.graphs.machine.policies import Retry
from rlm_agent.graphs.machine.rules import Parts, Reasoner, Rules, Search, Told
from rlm_agent.models.drive import Asking
from rlm_agent.operators.operations.base import Operation
from rlm_agent.operators.operations.choosing import KeepBest, Score, Selector
from rlm_agent.operators.operations.making import Generate, Improve
from rlm_agent.operators.operations.texts import lineage
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.formats import WHOLE
from rlm_agent.structure.steps import Steps
from rlm_agent.structure.wholes import in_one
from rlm_agent.tasks.answers import free_answer, normalise

_TEXTS = Steps(format=WHOLE, max_tokens=512)
_SOLUTIONS = replace(_TEXTS, answer=free_answer)


@takes_context
def create_graph_of_thoughts(
    model: Model = "mini", *, operations: Sequence[Operation] | None = None, **common: Unpack[Common]
) -> Reasoner:
    """A reasoner that runs a graph of operations, each a node of its own, in the order that `after` gives.

    operations: `Generate`, `Aggregate`, `Improve`, `ValidateAndImprove` and `Reason` make thoughts, `Score`,
        `KeepBest`, `KeepValid` and `Selector` judge them and choose; by default `default_operations`, for
        which steps of several lines are taken together.

    Thoughts are whole texts. Those from which a later operation makes something else are parts; all others
    are solutions, read and checked as `steps` says: by default, with operations of one's own, the text is the
    answer. The best solution that the last operations pass on holds the answer; where the budget did not
    reach so far, the best one of the latest operation that has any. Operations that are equally far from the
    beginning, by the longest way, run at the same time, and divide what is left of the budget in proportion
    to what they want of it; what one leaves over goes to later ones. One that the budget cuts short passes on
    what it has, and one that it does not reach runs if the search goes on with more.

    Deviations from the paper: a thought's state is its text, so that a prompt has what it needs in
    `{question}`, `{input}` and `{inputs}`. Values are in [0, 1], and higher is better. What is valid is told
    by functions and verifiers, never by the policy. There is no `GroundTruth`. The search ends at an answer
    that the verifier accepts. `common` is documented at `Common`; with operations of one's own there is no
    system prompt unless one is given. Raises `InputError` for a graph that cannot run, see `lay_out`.
    """
    if common.get("review") is not None:
        raise InputError("a graph of operations has no rounds to review; give interrupt_before instead")
    whole = _SOLUTIONS if operations is None else _TEXTS
    parts = parts_of("graph_of_thoughts", model, common, {}, whole=whole)
    if operations is None:
        parts = replace(parts, steps=in_one(parts.steps))
        operations = default_operations(parts)
    else:
        parts = replace(parts, system_prompt=common.get("system_prompt"))
    if parts.memory is not None and parts.memory.reuse:
        raise InputError("a graph of operations runs them all; leave reuse out of its memory")
    layout = lay_out(operations, parts)
    rules = Rules(select=lambda search: [], answer=partial(kept_answer, layout), narrate=tell_sources)
    name = common.get("name") or "graph_of_thoughts"
    nodes = OperationNodes(name, f"graph_of_thoughts:{layout.identity}", rules, parts, layout)
    return _drawn(nodes, common.get("retry", True)).compile(name=name, **compiling(common))


def default_operations(parts: Parts) -> list[Operation]:
    """Eight solutions, the best two of which are improved twice each if the model has learned to; the best.

    Where nobody judges solutions, by a verifier or a value, the most frequent answer of the eight is taken.
    """
    solve = Generate("solve", k=8)
    if parts.verifier is None and parts.value is None:
        return [solve, Selector("vote", choose=partial(most_frequent, parts.steps))]
    if parts.prompts.critique is None or parts.prompts.rewrite is None:
        return [solve, Score("score"), KeepBest("choose")]
    return [
        solve,
        Score("score"),
        KeepBest("keep", n=2),
        Improve("improve", k=2),
        Score("score_again"),
        KeepBest("choose", after=["keep", "score_again"]),
    ]


def most_frequent(steps: Steps, question: str, texts: Sequence[str]) -> list[int]:
    """The index of the first text whose answer most texts give; none for no texts."""
    said = [steps.answer(question, steps.granularity.for_answer([text])) for text in texts]
    answers = [normalise(answer or "") for answer in said]
    return [answers.index(answer) for answer, _ in Counter(answers).most_common(1)]


def tell_sources(search: Search, best: str) -> Asking[Told]:
    """The reasoning is the texts that the answer was made of, and those that they were made of."""
    yield from ()
    return Told([search.graph.thoughts[id]["text"] for id in lineage(search.graph, best)])


def _drawn(nodes: OperationNodes, retry: Retry) -> SearchGraph:
    """The user's graph between begin and conclude."""
    layout = nodes.layout
    builder = SearchGraph(nodes, operations_state(nodes.parts.budget), retry)
    builder.add_operator("begin", nodes.begin)
    for operation in layout.operations:
        builder.add_operator(operation.name, nodes.operation(operation))
    builder.add_operator("conclude", nodes.conclude)
    builder.add_edge(START, "begin")
    for operation in layout.operations:
        before = layout.before[operation.name]
        builder.add_edge(list(before) if len(before) > 1 else [*before, "begin"][0], operation.name)
    builder.add_edge(layout.last, "conclude")
    builder.add_edge("conclude", END)
    return builder
