"""PUCT against an independent implementation: mctx, where it is installed (`pip install mctx`)."""

import random
import warnings
from typing import Any

import pytest

from rlm_agent.operators.select import best, puct_scores
from rlm_agent.structure.thoughts import ThoughtGraph
from tests.structure.trees import grown, marked

pytestmark = pytest.mark.slow

ACTIONS = 6


def drawn(rng: random.Random) -> tuple[ThoughtGraph, list[str], list[float]]:
    """A root with visited and unvisited children, and priors that sum to 1."""
    graph, _ = grown({"q": [str(number) for number in range(ACTIONS)]})
    children = graph.children(graph.root)
    visits = [rng.choice((0, 1, 2, 5, 40)) for _ in children]
    for child, count in zip(children, visits, strict=True):
        graph = marked(graph, child, visits=count, q=rng.uniform(-1, 1))
    weights = [rng.random() for _ in children]
    priors = [weight / sum(weights) for weight in weights]
    return marked(graph, graph.root, visits=sum(visits)), children, priors


def tree_of(mctx: Any, graph: ThoughtGraph, children: list[str], priors: list[float]) -> Any:
    """The same statistics as a tree of mctx; a node's children visits and values are stored with the node."""
    jax, jnp = pytest.importorskip("jax"), pytest.importorskip("jax.numpy")
    stats = [graph.stats[child] for child in children]
    tree = mctx.Tree(
        node_visits=jnp.array([[graph.stats[graph.root]["visits"]]]),
        raw_values=jnp.zeros((1, 1)),
        node_values=jnp.zeros((1, 1)),
        parents=jnp.array([[-1]]),
        action_from_parent=jnp.array([[-1]]),
        children_index=jnp.full((1, 1, ACTIONS), -1),
        children_prior_logits=jnp.log(jnp.array([[priors]])),
        children_visits=jnp.array([[[one["visits"] for one in stats]]]),
        children_rewards=jnp.zeros((1, 1, ACTIONS)),
        children_discounts=jnp.ones((1, 1, ACTIONS)),
        children_values=jnp.array([[[one["q"] for one in stats]]]),
        embeddings=None,
        root_invalid_actions=jnp.zeros((1, ACTIONS)),
        extra_data=None,
    )
    return jax.tree_util.tree_map(lambda field: field[0], tree)


def unit_range(tree: Any, node: Any) -> Any:
    """x1's transform of q from [-1, 1] to [0, 1]; mctx itself normalises over siblings."""
    return (tree.children_values[node] + 1) / 2


@pytest.mark.parametrize(("c1", "c2"), [(1.25, 19652.0), (1.0, 5.0), (3.0, 100.0)])
def test_the_same_child_is_selected_as_by_mctx(c1: float, c2: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what other packages warn of while they are imported
        mctx, jax = pytest.importorskip("mctx"), pytest.importorskip("jax")
        reference = pytest.importorskip("mctx._src.action_selection")
    rng = random.Random(1)
    for number in range(40):
        graph, children, priors = drawn(rng)
        scores = puct_scores(lambda graph, ids, priors=priors: priors, c1, c2)(graph, graph.root, children)  # type: ignore[misc]
        chosen = best(graph, children, lambda graph, id: scores[children.index(id)])  # noqa: B023
        expected = reference.muzero_action_selection(
            jax.random.PRNGKey(number),
            tree_of(mctx, graph, children, priors),
            0,
            0,
            qtransform=unit_range,
            pb_c_init=c1,
            pb_c_base=c2,
        )
        assert chosen == children[int(expected)]
