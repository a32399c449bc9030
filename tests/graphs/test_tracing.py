"""What tracers are told of a search: names, metadata and tokens, and never the tree, however large it is."""

import gzip
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tracers import LangChainTracer
from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.schemas import Run
from langgraph.checkpoint.memory import InMemorySaver
from langsmith import Client

from rlm_agent import Budget, FakePolicy, FakeValue, create_mcts, create_reasoner
from tests.graphs.scripts import STEPS, Mortal, accepts, ask, binary, guess, reason, thread, whole_path

INGEST = {
    "use_multipart_endpoint": False,
    "size_limit": 100,
    "size_limit_bytes": 20_000_000,
    "scale_up_nthreads_limit": 4,
    "scale_up_qsize_trigger": 1000,
    "scale_down_nempty_trigger": 4,
}
"""How LangSmith wants to be sent runs; here as JSON that can be counted."""

ROOT = Path(__file__).parent.parent.parent


class Kept(BaseTracer):
    """A tracer that keeps all runs, as LangSmith's would send them."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[Run] = []

    def _persist_run(self, run: Run) -> None: ...

    def _on_run_create(self, run: Run) -> None:
        self.runs.append(run)

    @property
    def models(self) -> list[Run]:
        return [run for run in self.runs if run.run_type in ("llm", "chat_model")]


class LangSmith:
    """A server that takes what LangSmith's client sends: `bodies` as they came, `runs` by id."""

    def __init__(self) -> None:
        self.bytes, self.runs, self.paths = 0, {}, Counter[str]()  # type: ignore[var-annotated]

    def take(self, path: str, body: bytes) -> None:
        self.paths[path] += 1
        self.bytes += len(body)
        told = json.loads(body)
        for run in [*told.get("post", []), *told.get("patch", [])]:
            known = self.runs.setdefault(run["id"], {})
            known.update({name: value for name, value in run.items() if value is not None})


@contextmanager
def langsmith_server() -> Iterator[tuple[LangSmith, str]]:
    langsmith = LangSmith()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._say({"version": "1", "batch_ingest_config": INGEST})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            langsmith.take(self.path, gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body)
            self._say({})

        def _say(self, told: Any) -> None:
            body = json.dumps(told).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield langsmith, f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def bytes_a_thought(simulations: int) -> float:
    """What LangSmith is sent of a search, by the thought."""
    with langsmith_server() as (langsmith, url):
        client = Client(api_url=url, api_key="none")
        reasoner = create_mcts(
            FakePolicy(binary(12)),
            value=FakeValue(guess),
            steps=STEPS.__class__(answer=whole_path, max_steps=20),
            budget=Budget(calls=100_000),
            rollout=False,
            simulations=simulations,
            seed=1,
            checkpointer=InMemorySaver(),
        )
        reasoner.invoke(ask(), {**thread(), "callbacks": [LangChainTracer(client=client)]})
        client.flush()
        client.cleanup()
        values = reasoner.get_state(thread()).values
        assert len(langsmith.runs) > 5 * simulations
        return langsmith.bytes / len(values["thoughts"])


def test_langsmith_is_sent_no_more_of_a_thought_in_a_large_tree() -> None:
    small, large = bytes_a_thought(20), bytes_a_thought(120)
    assert large < 1.25 * small < 40_000


@pytest.mark.slow
def test_langsmith_works_by_its_environment_alone() -> None:
    program = (
        "from rlm_agent import create_mcts\n"
        "create_mcts('mini', seed=1).invoke({'messages': [('user', '4 9 10 13 : 24')]})\n"
    )
    with langsmith_server() as (langsmith, url):
        settings = {"LANGSMITH_TRACING": "true", "LANGSMITH_ENDPOINT": url, "LANGSMITH_API_KEY": "none"}
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, **settings}, cwd=ROOT, check=True, timeout=60
        )
    names = Counter(run["name"] for run in langsmith.runs.values())
    assert {"mcts", "begin", "select", "generate", "evaluate", "conclude", "GGUFPolicy"} <= names.keys()
    runs = [run for run in langsmith.runs.values() if run["name"] == "GGUFPolicy"]
    assert all(run["outputs"]["generations"] and run["end_time"] for run in runs)
    (root,) = [run for run in langsmith.runs.values() if run["name"] == "mcts"]
    assert set(root["inputs"]) == {"messages"} and root["outputs"]["answer"]


def test_nodes_and_completions_are_told_of_with_what_they_are() -> None:
    tracer, reasoner = Kept(), reason("mcts", checkpointer=InMemorySaver())
    reasoner.invoke(ask(), {**thread(), "callbacks": [tracer]})
    values = reasoner.get_state(thread()).values
    nodes = [run for run in tracer.runs if run.metadata.get("langgraph_node") == run.name]
    assert {run.name for run in nodes} == {
        "begin", "select", "generate", "evaluate", "backpropagate", "conclude",
    }  # fmt: skip
    assert all(run.metadata["rlm_strategy"] == "mcts" for run in nodes)
    by_thought = {run.metadata["rlm_node"]: run for run in tracer.models}
    written = {id for id, thought in values["thoughts"].items() if thought["kind"] != "root"}
    assert by_thought.keys() == written and len(by_thought) == len(tracer.models)
    parents = {run.id: run for run in tracer.runs}
    tokens = 0
    for id, run in by_thought.items():
        (((generation,),),) = [run.outputs["generations"]]  # type: ignore[index]
        usage = generation["message"]["kwargs"]["usage_metadata"]
        assert usage["output_tokens"] == values["thoughts"][id]["tokens"]
        assert parents[run.parent_run_id].name == "generate"  # type: ignore[index]
        assert run.metadata["rlm_operator"] == "generate" and "rlm-agent" in (run.tags or [])
        assert run.end_time is not None and run.error is None
        tokens += usage["output_tokens"]
    assert tokens == values["usage"]["completion_tokens"]


async def test_async_runs_are_told_of_the_same() -> None:
    plain, awaited = Kept(), Kept()
    reason("beam_search").invoke(ask(), {**thread(), "callbacks": [plain]})
    await reason("beam_search").ainvoke(ask(), {**thread(), "callbacks": [awaited]})

    def told(tracer: Kept) -> list[Any]:
        return [
            (run.name, run.metadata.get("rlm_node"), run.metadata.get("rlm_operator")) for run in tracer.runs
        ]

    assert told(plain) == told(awaited)


def test_the_tree_is_in_no_span() -> None:
    tracer = Kept()
    reason("mcts", budget=Budget(calls=200)).invoke(ask(), {**thread(), "callbacks": [tracer]})
    spans = [run for run in tracer.runs if run.run_type == "chain" and run.parent_run_id]
    assert len(spans) > 50
    for run in spans:
        assert set(run.inputs) <= {"turn", "round", "plan", "fresh"}
        assert set(run.outputs or {}) <= {"thoughts", "values", "usage", "answer", "goto"}
    written = [id for run in spans for id in (run.outputs or {}).get("thoughts", {})]
    assert len(written) == len(set(written))


def test_runs_that_take_turns_know_each_for_itself_whether_it_is_traced() -> None:
    """In one context, in which a run without tracers is told nothing of them."""
    tracer = Kept()
    traced = reason("mcts").stream(ask(), {**thread(), "callbacks": [tracer]}, stream_mode="updates")
    others = reason("mcts").stream(ask(), thread(), stream_mode="updates")
    turns = list(zip_longest(traced, others))
    assert all(turns[20])
    spans = [run for run in tracer.runs if run.run_type == "chain" and run.parent_run_id]
    assert len(spans) > 9
    assert all(set(run.inputs) <= {"turn", "round", "plan", "fresh"} for run in spans)


def test_what_fails_is_told_of_as_failed() -> None:
    tracer = Kept()
    with pytest.raises(ConnectionError):
        reason("chain", Mortal(1)).invoke(ask(), {**thread(), "callbacks": [tracer]})
    (*_, last) = tracer.models
    assert last.end_time is not None and "the model is gone" in str(last.error)
    tracer = Kept()
    policy = FakePolicy(
        lambda question, prefix: [("yes", -1.0, True)], fails={0: "no such model"}, cycle=True
    )
    reason("best_of_n", policy).invoke(ask(), {**thread(), "callbacks": [tracer]})
    assert sum("no such model" in str(run.error) for run in tracer.models) == 1


def test_a_chat_model_is_told_of_by_itself_alone() -> None:
    tracer = Kept()
    model = GenericFakeChatModel(messages=iter([AIMessage("it is yes")] * 9))
    reasoner = create_reasoner("chain", model, steps=STEPS, verifier=accepts("it is yes"))
    reasoner.invoke(ask(), {**thread(), "callbacks": [tracer]})
    assert tracer.models and {run.name for run in tracer.models} == {"GenericFakeChatModel"}


def test_streams_of_messages_hear_no_span() -> None:
    """Only tracers hear of the runs: nothing is said twice in the `messages` stream."""
    policy = FakePolicy(lambda question, prefix: [("so it is", -1.0, True)], cycle=True)
    config: Any = {**thread(), "callbacks": [Kept()]}
    told: Any = list(reason("chain", policy).stream(ask(), config, stream_mode="messages"))
    said = Counter(message.content for message, _ in told)
    assert said["so it is"] == 2, "the step, and the reply"
