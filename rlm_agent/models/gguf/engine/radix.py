"""A radix tree over token ids: which prefixes are known, in the context or put aside.

A sequence of the context is live while a request works with it, and idle afterwards, until what it alone
holds is put aside in ordinary memory. What somebody holds, all the way up to the root, is in the context.
Plain bookkeeping; the context does what is told here.
"""

from collections import OrderedDict

from rlm_agent.models.gguf.engine.jobs import Tokens
from rlm_agent.models.gguf.engine.nodes import Match, Node, Output


class RadixTree:
    """All known prefixes, under a root for each adapter.

    `memory` bounds the bytes of the outputs that are kept.
    """

    def __init__(self, memory: int = 32_000_000) -> None:
        self._roots: dict[str | None, Node] = {}
        self._ends: dict[int, Node] = {}
        self._idle: set[int] = set()
        self._outputs: OrderedDict[Node, Output] = OrderedDict()
        self._memory = memory
        self._kept = 0

    def match(self, tokens: Tokens, adapter: str | None, now: int) -> Match:
        """What is known of `tokens`."""
        node, length = self._descend(tokens, adapter)
        path = list(node.upwards())[::-1]
        for each in path:
            each.used = now
        inside = [each for each in path if each.users]
        pieces = [each.piece for each in path[len(inside) :]]
        held = min(inside[-1].end, length) if inside else 0
        return Match(length, held, self.any_of(inside[-1]) if inside else -1, pieces)

    def output(self, tokens: Tokens, adapter: str | None) -> Output | None:
        """What was computed after exactly these tokens, where it is still kept."""
        node, length = self._descend(tokens, adapter)
        if length < len(tokens) or node.end != length or node not in self._outputs:
            return None
        self._outputs.move_to_end(node)
        return self._outputs[node]

    def remember(self, sequence: int, output: Output) -> None:
        """Keep what was computed after the last token of a sequence."""
        self._forget_output(node := self._ends[sequence])
        self._outputs[node] = output
        self._kept += output.size
        while self._kept > self._memory:
            self._forget_output(next(iter(self._outputs)))

    def place(self, sequence: int, tokens: Tokens, adapter: str | None, now: int) -> list[int]:
        """Note that a live sequence holds `tokens`; returns the idle ones that it makes superfluous."""
        node, length = self._descend(tokens, adapter)
        if node.end > length:
            node = self._split(node, length - node.start)
        if length < len(tokens):
            child = Node(tokens[length:], len(tokens), node)
            node.children[tokens[length]] = child
            node = child
        self._move(sequence, node, live=True)
        node.used = now
        covered = [s for above in node.upwards() for s in above.sequences if s in self._idle]
        for idle in covered:
            self.remove(idle)
        return covered

    def settle(self, sequence: int) -> bool:
        """A live sequence becomes idle; False where it is superfluous and was taken out instead."""
        node = self._ends[sequence]
        if node.users > 1:
            self.remove(sequence)
            return False
        for above in node.upwards():
            above.live -= 1
        self._idle.add(sequence)
        return True

    def remove(self, sequence: int) -> None:
        """Take a sequence out, and with it what it alone held and what was not put aside."""
        self._move(sequence, None, live=sequence not in self._idle)
        self._idle.discard(sequence)

    def shorten(self, sequence: int, keep: int) -> int:
        """Cut an idle sequence back to `keep` tokens or to its last branching; how many remain.

        None where others hold what remains: then it is taken out.
        """
        node = self._ends[sequence]
        while node.parent is not None and node.end > keep:
            left, node = node, self._split(node, keep - node.start) if node.start < keep else node.parent
            left.aside = None if left.users == 1 else left.aside  # or it would hang in the air
            if len(node.children) > 1:
                break
        if node.parent is None or node.users > 1:
            self.remove(sequence)
            return 0
        self._move(sequence, node, live=False)
        return node.end

    def forget(self, tokens: Tokens, keep: int, adapter: str | None) -> list[int]:
        """Drop what was put aside from `tokens` on; returns the idle sequences that go on from there.

        What lies up to two tokens before, beyond `keep`, counts as the end of `tokens`: what ended a
        generation was never fed, nor was a delimiter that it did not come to.
        """
        node, length = self._descend(tokens, adapter)
        ended = length == node.end and not node.children and length >= len(tokens) - 2
        if length <= keep or not (ended or length == len(tokens)):
            return []
        if node.start < keep and not node.users:
            self._split(node, keep - node.start)  # what was put aside before goes on being known
        nodes = [node]
        for below in nodes:  # grows while it is gone through
            nodes += below.children.values()
        found = [sequence for below in nodes for sequence in below.sequences if sequence in self._idle]
        for below in reversed(nodes):
            if not below.users:
                below.aside = None
                self._prune(below)
        return found

    def inside(self) -> list[Node]:
        """All nodes in the context, each after those it continues."""
        nodes = [child for root in self._roots.values() for child in root.children.values() if child.users]
        for node in nodes:  # grows while it is gone through
            nodes += [child for child in node.children.values() if child.users]
        return nodes

    def through(self, nodes: list[Node]) -> dict[Node, list[int]]:
        """For each of the nodes that `inside` lists, the live sequences that hold it."""
        through: dict[Node, list[int]] = {}
        for node in reversed(nodes):
            below = (s for child in node.children.values() if child.users for s in through[child])
            through[node] = [*self.ending(node), *below]
        return through

    def ending(self, node: Node) -> list[int]:
        """The live sequences that hold a node and nothing beyond."""
        return [sequence for sequence in node.sequences if sequence not in self._idle]

    def heir(self, node: Node) -> Node | None:
        """The child through which all live sequences of a node go on, if there is one."""
        return next((child for child in node.children.values() if child.live == node.live), None)

    def put_aside(self) -> list[int]:
        """Take all idle sequences out, whose cells were read; returns them."""
        idle = sorted(self._idle)
        for sequence in idle:
            self.remove(sequence)
        return idle

    def aside(self) -> list[Node]:
        """All nodes that were put aside, each after those it continues."""
        nodes = [child for root in self._roots.values() for child in root.children.values()]
        for node in nodes:  # grows while it is gone through
            nodes += node.children.values()
        return [node for node in nodes if not node.users]

    def drop(self, node: Node) -> None:
        """Forget a node that was put aside and that nothing continues."""
        if not node.children and not node.users:
            node.aside = None
            self._prune(node)

    def _move(self, sequence: int, node: Node | None, *, live: bool) -> None:
        """Let a sequence end at another node, or nowhere."""
        before = self._ends.pop(sequence, None)
        if node is not None:
            self._ends[sequence] = node
            node.sequences.add(sequence)
            for above in node.upwards():
                above.users += 1
                above.live += live
        if before is not None:
            if before is not node:
                before.sequences.discard(sequence)
            for above in before.upwards():
                above.users -= 1
                above.live -= live
            self._prune(before)
            self._join(before)

    def _descend(self, tokens: Tokens, adapter: str | None) -> tuple[Node, int]:
        """The node in which the known part of `tokens` ends, and its length."""
        node = self._roots.setdefault(adapter, Node((), 0, None))
        length = 0
        while length < len(tokens) and (child := node.children.get(tokens[length])) is not None:
            shared = _common(child.tokens, tokens[length : length + len(child.tokens)])
            node, length = child, length + shared
            if shared < len(child.tokens):
                break
        return node, length

    def _split(self, node: Node, at: int) -> Node:
        """Divide a node after its first `at` tokens; returns the new upper half."""
        above = node.parent
        assert above is not None
        upper = Node(node.tokens[:at], node.start + at, above, node.used, node.users, node.live, node.aside)
        above.children[node.tokens[0]] = upper
        node.tokens, node.parent = node.tokens[at:], upper
        upper.children[node.tokens[0]] = node
        return upper

    def _prune(self, node: Node) -> None:
        while node.parent is not None and not node.children and not node.users and node.aside is None:
            self._forget_output(node)
            del node.parent.children[node.tokens[0]]
            node = node.parent

    def _join(self, node: Node) -> None:
        """Make one of a node and its only child where nothing tells them apart any more."""
        ends = node.sequences or node in self._outputs or node.parent is None
        if ends or len(node.children) != 1 or node.aside is not None:
            return
        (child,) = node.children.values()
        if child.aside is None:
            assert node.parent is not None
            child.tokens, child.parent = node.tokens + child.tokens, node.parent
            node.parent.children[child.tokens[0]] = child

    def any_of(self, node: Node) -> int:
        """A sequence that holds a node in the context."""
        while not node.sequences:
            node = next(child for child in node.children.values() if child.users)
        return next(iter(node.sequences))

    def _forget_output(self, node: Node) -> None:
        if (output := self._outputs.pop(node, None)) is not None:
            self._kept -= output.size


def _common(first: Tokens, second: Tokens) -> int:
    """How many tokens two stretches begin with alike."""
    if first == second:
        return len(first)
    for index, (a, b) in enumerate(zip(first, second, strict=False)):
        if a != b:
            return index
    return min(len(first), len(second))
