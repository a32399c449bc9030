"""LangGraph Server as `langgraph dev` starts it, and its SDK client, on loopback alone.

The server pins versions that the development tools do not share, so that it may live in an environment of its
own: `LANGGRAPH_BIN` names its `langgraph`, by default the one beside this Python.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

from rlm_agent.graphs.reasoner import STRATEGIES
from rlm_agent.graphs.ways import served

ROOT = Path(__file__).parent.parent.parent
CONFIG = json.loads((ROOT / "langgraph.json").read_text(encoding="utf-8"))
BIN = os.environ.get("LANGGRAPH_BIN") or shutil.which("langgraph", path=str(Path(sys.executable).parent))
QUESTION: dict[str, Any] = {
    "messages": [{"role": "user", "content": "4 9 10 13 : 24"}],
    "terms": {"seed": 1, "budget": {"tokens": 400}},
}
needs_server = pytest.mark.skipif(BIN is None, reason="langgraph-cli[inmem] is not installed")


def test_each_graph_of_the_file_is_a_strategy_without_a_checkpointer() -> None:
    for name, home in CONFIG["graphs"].items():
        module, _, factory = home.partition(":")
        assert module == served.__name__ and factory == name and name in STRATEGIES
        reasoner = getattr(served, factory)()
        assert reasoner.checkpointer is None and reasoner.store is None
        assert reasoner is getattr(served, factory)()


def test_studio_can_draw_forms_and_graphs() -> None:
    for name in CONFIG["graphs"]:
        reasoner = getattr(served, name)()
        asked = reasoner.get_input_jsonschema()
        assert set(asked["properties"]) == {"messages", "terms"} and asked["required"] == ["messages"]
        assert "answer" in reasoner.get_output_jsonschema()["properties"]
        assert "policy" in reasoner.get_context_jsonschema()["properties"]
        assert "conclude" in reasoner.get_graph().draw_mermaid()


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SyncLangGraphClient]:
    assert BIN is not None
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--config", ROOT / "langgraph.json", "--port", port, "--no-browser", "--no-reload"]
    settings = {"LANGGRAPH_CLI_NO_ANALYTICS": "1", "LANGSMITH_TRACING": "false", "PYTHONPATH": str(ROOT)}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [Path(BIN).absolute(), "dev", *map(str, options)],
            cwd=folder,  # where it keeps its threads
            env={**os.environ, **settings},
            stdout=log,
            stderr=log,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_for(f"{url}/ok", server, folder / "log")
        with get_sync_client(url=url) as client:
            yield client
    finally:
        server.terminate()
        server.wait(20)


def _wait_for(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        if server.poll() is not None:
            break
        try:
            if httpx.get(url, trust_env=False).is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    pytest.fail(f"the server has not started: {log.read_text()[-3000:]}")


@needs_server
@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIG["graphs"])
def test_a_run_answers(client: SyncLangGraphClient, name: str) -> None:
    state: Any = client.runs.wait(None, name, input=QUESTION)
    here = getattr(served, name)().invoke(QUESTION)
    assert state["answer"] == here["answer"] and state["messages"][-1]["type"] == "ai"
    assert {**state["usage"], "seconds": 0} | {"prompt_tokens": 0, "cached_tokens": 0} == {
        **here["usage"],
        "seconds": 0,
    } | {"prompt_tokens": 0, "cached_tokens": 0}


@needs_server
@pytest.mark.slow
def test_a_run_streams_its_events(client: SyncLangGraphClient) -> None:
    parts = list(client.runs.stream(None, "mcts", input=QUESTION, stream_mode=["custom", "updates"]))
    events = [part.data for part in parts if part.event == "custom"]
    kinds = {event["event"] for event in events}
    assert {"operator", "thought", "answer"} <= kinds
    assert {"begin", "select", "generate", "conclude"} <= {
        name for part in parts if part.event == "updates" for name in part.data
    }


@needs_server
@pytest.mark.slow
def test_a_run_streams_messages(client: SyncLangGraphClient) -> None:
    parts = list(client.runs.stream(None, "chain", input=QUESTION, stream_mode="messages-tuple"))
    said = [part.data[0] for part in parts if part.event == "messages"]
    answers = [message for message in said if message["type"] == "ai"]
    assert answers and answers[-1]["name"] == "chain"


@needs_server
@pytest.mark.slow
def test_a_thread_keeps_the_conversation_and_its_history(client: SyncLangGraphClient) -> None:
    thread = client.threads.create()["thread_id"]
    client.runs.wait(thread, "mcts", input=QUESTION)
    second: Any = {"messages": [{"role": "user", "content": "2 3 10 10 : 24"}]}
    state: Any = client.runs.wait(thread, "mcts", input=second)
    assert [message["type"] for message in state["messages"]] == ["human", "ai", "human", "ai"]
    values: Any = client.threads.get_state(thread)["values"]
    assert values["run"]["turn"] == 2 and len(values["thoughts"]) > 2
    history: Any = client.threads.get_history(thread, limit=100)
    assert len(history) > 8 and history[0]["values"]["answer"] == values["answer"]


@needs_server
@pytest.mark.slow
def test_a_run_is_interrupted_and_goes_on(client: SyncLangGraphClient) -> None:
    whole: Any = client.runs.wait(None, "mcts", input=QUESTION)
    thread = client.threads.create()["thread_id"]
    client.runs.wait(thread, "mcts", input=QUESTION, interrupt_before=["evaluate"])
    stopped: Any = client.threads.get_state(thread)
    assert stopped["next"] == ["evaluate"] and stopped["values"].get("answer") is None
    state: Any = client.runs.wait(thread, "mcts", input=None)
    assert state["answer"] == whole["answer"]
    assert state["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]


@needs_server
@pytest.mark.slow
def test_a_client_chooses_an_embedded_model_and_opens_no_file(client: SyncLangGraphClient) -> None:
    context: Any = {"policy": "mini"}
    state: Any = client.runs.wait(None, "mcts", input=QUESTION, context=context)
    assert state["answer"]
    refused: Any = client.runs.wait(
        None, "mcts", input=QUESTION, context={"policy": "other.gguf"}, raise_error=False
    )
    assert "names no model" in refused["__error__"]["message"]


@needs_server
@pytest.mark.slow
def test_a_question_that_is_none_is_an_error_that_leaves_the_thread_readable(
    client: SyncLangGraphClient,
) -> None:
    thread = client.threads.create()["thread_id"]
    said: Any = {"messages": [{"role": "user", "content": "how are you?"}]}
    refused: Any = client.runs.wait(thread, "mcts", input=said, raise_error=False)
    assert refused["__error__"]["error"] == "ProblemError"
    assert client.threads.get_state(thread)["values"] is not None
    state: Any = client.runs.wait(thread, "mcts", input=QUESTION)
    assert state["answer"]
