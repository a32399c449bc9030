"""What a search did, as events and in files."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from rlm_agent import Budget, FakePolicy, Verdict, create_reasoner
from rlm_agent.evaluation.traces import TraceLog
from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.graphs.tracing import trace
from rlm_agent.models.fake import Reply
from rlm_agent.structure.errors import CheckpointError
from rlm_agent.structure.events import Event
from rlm_agent.structure.steps import Steps


def reasoner() -> Reasoner:
    def script(question: str, prefix: str) -> Sequence[Reply]:
        return [("one", 0.0)] if not prefix else [("two three", 0.0, True)]

    return create_reasoner(
        "best_of_n",
        FakePolicy(script),
        n=2,
        parallel=1,
        seed=0,
        steps=Steps(max_tokens=8, max_steps=4),
        verifier=lambda question, candidate: Verdict(False),
        budget=Budget(calls=9),
    )


def test_trace_tells_every_operator_thought_and_the_answer() -> None:
    events = list(trace(reasoner(), "count"))
    operators = [event for event in events if event["event"] == "operator"]
    thoughts = [event for event in events if event["event"] == "thought"]
    generated = [id for event in operators if event["operator"] == "generate" for id in event["outputs"]]
    answer = events[-1]
    assert answer["event"] == "answer"
    assert [event["text"] for event in thoughts] == ["one", "two three"] * 2
    assert generated == [event["id"] for event in thoughts]
    assert {event["operator"] for event in operators} >= {"select", "generate", "evaluate"}
    assert sum(event["tokens"] for event in operators) == answer["usage"]["completion_tokens"] == 10
    assert sum(event["model_calls"] for event in operators) == answer["usage"]["model_calls"] == 4


def test_each_thought_is_told_after_its_parent() -> None:
    events = list(trace(reasoner(), "count"))
    root = next(event for event in events if event["event"] == "operator")["inputs"]
    known = set(root)
    for event in events:
        if event["event"] == "thought":
            assert event["parent"] in known
            known.add(event["id"])


def test_log_keeps_whole_traces_only_and_each_once(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    events: list[Event] = list(trace(reasoner(), "count"))
    log = TraceLog(path)
    log.add("first", events)
    log.add("first", events)
    kept = path.read_text()
    TraceLog(path).add("second", events[:-1])
    again = TraceLog(path)
    assert path.read_text() == kept
    assert ("first" in again, "second" in again) == (True, False)
    told = [json.loads(line)["event"] for line in kept.splitlines()]
    assert told == [event["event"] for event in events if event["event"] not in ("budget", "best", "value")]
    assert set(told) == {"operator", "thought", "answer"}


@pytest.mark.parametrize(
    "line", ['{"question": "1"}', '{"event": "answer"}', '{"event": "answer", "question": []}']
)
def test_log_of_something_else_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(CheckpointError, match="no event"):
        TraceLog(path)
