"""Spans: what a long chain of thought did, read off its text after the fact.

One autoregressive chain searches within itself: it goes on, looks back, turns round and sums up. Said as
calls of operators, that is a trace for trace-based supervision (blueprint §1, implicit RLM). The cues are
ours, of the kind that studies of such chains count (verification and backtracking, Gandhi et al., arXiv
2503.01307).
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rlm_agent.structure.events import SpanEvent
from rlm_agent.structure.metaactions import REFLECT, split_tag
from rlm_agent.structure.thoughts import ThoughtGraph

Label = Literal["generate", "backtrack", "critique", "summarise"]

_SIGHT = 120
"""How many letters of a sentence are looked at."""
_SENTENCE_END = re.compile(r"[.!?]+\s+|\n\s*")
_OPENING = r"[\s>*#\"'(–-]{0,8}"
_WORDS = r"(?:(?:wait|hmm+|but|so|and|or|no|oh|okay|ok|now|well|actually|maybe)\b[,.!… ]{0,4}){0,4}"
_WILL = (
    r"(?:(?:let me|let us|let's|i|we|to|i'll|we'll)(?: (?:can|could|should|must|need to|have to|now)){0,2} )"
)
_THAT = r"(?:that|this|it)"
_BACK = (
    rf"{_WILL}?(?:go(?:ing)? back|back up|start (?:over|again|anew)|backtrack|return to|undo)",
    rf"{_WILL}?try(?:ing)? (?:again|another|a different|something else)",
    r"(?:alternatively|instead|scratch that|on second thought)",
    r"another (?:way|approach|idea|option|possibility)",
    rf"{_THAT} (?:leads|gets|goes) (?:me |us )?nowhere",
    rf"{_THAT}(?: is|'s)? a dead end",
)
_LOOK = (
    rf"{_WILL}(?:double[- ]?check|re-?check|check|verify|confirm|make sure|re-?examine|look again|test)",
    r"(?:checking|verifying|check|verification)",
    rf"(?:is|was|does|did) {_THAT}\b[^?]{{0,60}}\?",
    rf"{_THAT}(?: is|'s| was| can't be| cannot be| isn't)(?: not)? (?:wrong|incorrect|right|correct)",
    rf"{_THAT} (?:doesn't|does not) (?:work|fit|add up|hold)",
    r"(?:i|we)(?: have|'ve)? (?:made|make|see) (?:a|an|the|my) (?:mistake|error|slip)",
)
_SUM = (
    r"(?:so far|in summary|to summari[sz]e|to sum up|all in all|overall|in conclusion)",
    r"(?:therefore|thus|hence)",
    r"putting (?:it|this|that|everything) (?:all )?together",
    r"the (?:final )?answer (?:is|should be|must be)",
)
_DOUBT = (r"(?:wait|hmm+|hold on)",)


def _any(cues: tuple[str, ...], before: str = _OPENING + _WORDS) -> re.Pattern[str]:
    return re.compile(rf"{before}(?:{'|'.join(cues)})(?!\w)", re.IGNORECASE)


_CUES: tuple[tuple[Label, re.Pattern[str]], ...] = (
    ("backtrack", _any(_BACK)),
    ("critique", _any(_LOOK)),
    ("summarise", _any(_SUM)),
    ("critique", _any(_DOUBT, before=_OPENING)),
)
_KEPT = re.compile(r"back to (?:step )?([0-9]{1,3})\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a text, from `begin` up to `end`, that does what an operator would."""

    operator: Label
    begin: int
    end: int


def label(text: str) -> list[Span]:
    """The spans of a text, in order and without gaps; sentences that do the same make one.

    A sentence is what a cue near its beginning says it is, and `generate` without one.
    """
    spans: list[Span] = []
    for begin, end in _sentences(text):
        operator = _operator(text, begin, end)
        same = bool(spans) and spans[-1].operator == operator
        spans.append(Span(operator, spans.pop().begin if same else begin, end))
    return spans


def trace(graph: ThoughtGraph, leaf: str) -> list[SpanEvent]:
    """What the thoughts on the path to a leaf did, in order, as calls of operators.

    A thought that a meta-action opens is one call, and a reflection two: a critique of the thought before it,
    and a backtrack to the one that it names. Of other thoughts, each span is a call.
    """
    events: list[SpanEvent] = []
    before = [graph.root]
    for id in graph.path(leaf)[1:]:
        events += _calls(graph, id, before)
        _go_past(graph, id, before)
    return events


def trace_last(graph: ThoughtGraph, leaf: str) -> list[SpanEvent]:
    """The end of the `trace`: what the leaf itself did."""
    before = [graph.root]
    for id in graph.path(leaf)[1:-1]:
        _go_past(graph, id, before)
    return _calls(graph, leaf, before)


def _calls(graph: ThoughtGraph, id: str, before: Sequence[str]) -> list[SpanEvent]:
    """What a thought did behind those that stand `before` it."""
    text = graph.thoughts[id]["text"]
    tagged, whole = split_tag(text), Span("generate", 0, len(text))
    if tagged.tag == REFLECT:
        back = before[_kept(tagged.text, len(before)) - 1]
        return [
            _event(id, replace(whole, operator="critique"), before[-1], id),
            _event(id, replace(whole, operator="backtrack"), id, back),
        ]
    spans = label(text) if tagged.tag is None else [whole]
    return [_event(id, span, id if span.begin else before[-1], id) for span in spans]


def _go_past(graph: ThoughtGraph, id: str, before: list[str]) -> None:
    """Let those stand `before` the next thought that stand after this one."""
    tagged = split_tag(graph.thoughts[id]["text"])
    if tagged.tag == REFLECT:
        del before[_kept(tagged.text, len(before)) :]
    else:
        before.append(id)


def _event(thought: str, span: Span, source: str, target: str) -> SpanEvent:
    return SpanEvent(
        event="span",
        operator=span.operator,
        inputs=[source],
        outputs=[target],
        thought=thought,
        begin=span.begin,
        end=span.end,
    )


def _kept(said: str, standing: int) -> int:
    """How many of the thoughts that stand, the root first, a reflection keeps: all unless it names a step."""
    match = _KEPT.search(said[:_SIGHT])
    return standing if match is None else min(standing, 1 + int(match[1]))


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    begin = 0
    for match in _SENTENCE_END.finditer(text):
        if text[begin : match.end()].strip():
            yield begin, match.end()
            begin = match.end()
    if begin < len(text):
        yield begin, len(text)


def _operator(text: str, begin: int, end: int) -> Label:
    seen = text[begin : min(end, begin + _SIGHT)].replace("\u2019", "'")
    return next((name for name, cue in _CUES if cue.match(seen)), "generate")
