"""The one state machine under every search strategy: begin → select → generate → evaluate → … → conclude.

A strategy is a choice of rules (`Rules`) over this skeleton; its nodes bear the operators' names. The nodes
are bodies of code that ask models (`models/drive.py`), so that the same graph serves `invoke` and `ainvoke`.
"""

from itertools import pairwise
from typing import Any

from langgraph.graph import END, START

from rlm_agent.graphs.machine.graph import Fork, SearchGraph
from rlm_agent.graphs.machine.nodes import Node, Nodes, at_once
from rlm_agent.graphs.machine.policies import Retry
from rlm_agent.graphs.machine.review import Review
from rlm_agent.graphs.machine.reviewing import REVIEW, REVIEW_ANSWER, reviews_of
from rlm_agent.graphs.machine.rules import Parts, Reasoner, Rules
from rlm_agent.graphs.machine.state import search_state


def compile_search(
    name: str,
    strategy: str,
    rules: Rules,
    parts: Parts,
    *,
    retry: Retry = True,
    review: Review | None = None,
    **options: Any,
) -> Reasoner:
    """The state machine of a strategy; `options` are those of LangGraph's `compile`."""
    nodes = Nodes(name, strategy, rules, parts)
    noted = {"prune": rules.prune, "backpropagate": rules.backpropagate}
    writing = {name: nodes.writing(name, rule) for name, rule in noted.items() if rule is not None}
    loop: dict[str, Node] = {
        "select": nodes.select,
        rules.expand_as: nodes.expand,
        "evaluate": nodes.evaluate,
        **writing,
    }
    if rules.at_once:
        loop = {name: body for name, body in loop.items() if name not in writing}
        loop["evaluate"] = at_once(nodes.evaluate, *writing.values(), nodes.select_on)
    builder = SearchGraph(nodes, search_state(parts.budget), retry)
    select, expand, *others = loop
    reviews = reviews_of(nodes, review, {REVIEW: expand, REVIEW_ANSWER: "conclude"})
    ahead = REVIEW if REVIEW in reviews else expand
    after = REVIEW_ANSWER if REVIEW_ANSWER in reviews else "conclude"
    again = Fork(nodes.goes_on, {True: select, False: after})
    onward = Fork(nodes.has_plan, {True: ahead, False: after})
    forks = {"begin": again, select: onward, others[-1]: onward if rules.at_once else again}
    for operator, body in {"begin": nodes.begin, **loop, "conclude": nodes.conclude}.items():
        builder.add_operator(operator, body, forks.get(operator), timed=operator in (expand, "evaluate"))
    for operator, one in reviews.items():
        followed = {"approved": one.before, "added": "evaluate", "edited": select, "over": after}
        builder.add_operator(operator, one.node, Fork(one.verdict, followed))
    builder.add_edge(START, "begin")
    for operator, following in pairwise((expand, *others)):
        builder.add_edge(operator, following)
    builder.add_edge("conclude", END)
    return builder.compile(name=name, **options)
