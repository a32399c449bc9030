"""A real llama.cpp server and a real llama_cpp.server, both serving mini, against mini in this process."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from rlm_agent import Budget, create_reasoner
from rlm_agent.evaluation.runs import Result, solve
from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.models.gguf.values.formats import MATH_SHEPHERD, PRMValue
from rlm_agent.models.gguf.values.labels import Labels
from rlm_agent.models.gguf.values.values import LabelValue
from rlm_agent.models.protocols import Candidate, Completion, Decoding, Message, Piece, Policy, Request
from rlm_agent.models.remote.client import Patience
from rlm_agent.models.remote.labels import RemoteLabelValue, remote_reward_model
from rlm_agent.models.remote.policy import RemotePolicy
from rlm_agent.models.resolve import load_policy, load_value
from rlm_agent.structure.errors import InputError, PromptTooLongError
from rlm_agent.tasks.registry import get_task
from tests.models.conftest import MakeModel
from tests.serve.conftest import running
from tests.servers import MINI, counted, serving

GREEDY = Decoding(temperature=0.0)
QUESTION = "4 9 10 13 : 24"


def ask(
    prefix: str = "", *, question: str = QUESTION, most: int = 40, seed: int = 0, **more: object
) -> Request:
    """A request for a step behind `prefix`."""
    messages = (Message(role="user", content=question),)
    settings: dict[str, object] = {"stop": ("\n",), "decoding": GREEDY, **more}
    return Request(messages, prefix, most, seed, **settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def llama() -> Iterator[str]:
    """The URL of llama.cpp's server."""
    with serving("llama.cpp", slots=4) as url:
        yield url


@pytest.fixture(params=["#tokenizer=mini", ""], ids=["own vocabulary", "the server's"])
def remote(llama: str, request: pytest.FixtureRequest) -> Iterator[RemotePolicy]:
    """A policy over it, with and without a vocabulary here."""
    policy = RemotePolicy(f"{llama}/v1{request.param}")
    yield policy
    policy.close()


REQUESTS = [
    ask(),
    ask("13 - 10 = 3 | 3 4 9\n"),
    ask("13 - 10 = 3 | 3 4 9\n9 - 3 = 6 | 4 6\n"),  # the answer ends here, and not by a stop
    ask(question="1 2 </s> 3 : 6"),  # what a user writes ends no turn
    ask(most=3),
]


def alike(one: Completion) -> tuple[object, ...]:
    """What has to be equal; the last bits of a log-probability depend on the batch."""
    return one.text, one.tokens, one.finish, one.prompt_tokens + one.cached_tokens, round(one.logprob, 1)


def test_completions_are_those_of_this_process(remote: RemotePolicy) -> None:
    here = load_policy("mini").generate(REQUESTS)
    assert [one.finish for one in here] == ["stop", "stop", "end", "stop", "length"]
    assert list(map(alike, remote.generate(REQUESTS))) == list(map(alike, here))


def test_a_stream_says_the_same_piece_by_piece(remote: RemotePolicy) -> None:
    *pieces, last = remote.stream(REQUESTS)
    assert isinstance(last, list)
    assert list(map(alike, last)) == list(map(alike, remote.generate(REQUESTS)))
    assert len(pieces) > len(REQUESTS)
    for index, one in enumerate(last):
        told = "".join(piece.text for piece in pieces if isinstance(piece, Piece) and piece.request == index)
        assert told == one.text


async def test_async_callers_get_the_same_on_any_loop(remote: RemotePolicy) -> None:
    one = await remote.agenerate(REQUESTS[:2])
    two = await asyncio.to_thread(lambda: asyncio.run(remote.agenerate(REQUESTS[:2])))
    assert list(map(alike, one)) == list(map(alike, two)) == list(map(alike, remote.generate(REQUESTS[:2])))


@pytest.mark.parametrize("strategy", ["chain", "beam_search"])
def test_searches_end_alike_and_count_as_the_server_does(llama: str, strategy: str) -> None:
    task = get_task("game24")
    parameters = {"width": 2, "expansions": 2} if strategy == "beam_search" else {}

    def answers(model: str | Policy) -> list[Result]:
        reasoner = create_reasoner(
            strategy,
            model,
            steps="game24",
            budget=Budget(tokens=150),
            seed=1,
            temperature=0.0,
            **parameters,  # type: ignore[arg-type]
        )
        return [solve(reasoner, task, problem) for problem in task.sample("test", 6, 0)]

    remote = RemotePolicy(f"{llama}/v1", tokenizer="mini")
    before = counted(llama)["tokens_predicted_total"]
    there = answers(remote)
    theirs = counted(llama)["tokens_predicted_total"] - before
    assert [one.answer for one in there] == [one.answer for one in answers("mini")]
    assert sum(one.completion_tokens for one in there) == theirs > 0
    remote.close()


def test_a_specialist_is_known_by_its_vocabulary_file_alone(llama: str) -> None:
    mini = load_policy("mini")
    with_file, without = RemotePolicy(f"{llama}/v1#tokenizer=mini"), RemotePolicy(f"{llama}/v1")
    assert (with_file.task, with_file.prompts) == (mini.task, mini.prompts)  # type: ignore[attr-defined]
    assert with_file.decoding == mini.decoding
    assert without.task is None
    assert RemotePolicy(f"{llama}/v1#task=countdown").task == "countdown"


def test_a_name_is_enough(llama: str) -> None:
    policy = load_policy(f"{llama}/v1#tokenizer=mini")
    assert policy is load_policy(f"{llama}/v1#tokenizer=mini")
    result = create_reasoner("chain", f"{llama}/v1#tokenizer=mini").invoke({"messages": [("user", QUESTION)]})
    assert result["messages"][-1].content
    policy.close()  # type: ignore[attr-defined]


def test_another_models_vocabulary_is_found_out(llama: str, tiny: object) -> None:
    policy = RemotePolicy(f"{llama}/v1", tokenizer=str(tiny))
    with pytest.raises(InputError, match="not that of the model"):
        policy.generate([ask()])
    policy.close()


def test_a_prompt_that_is_too_long_says_so(remote: RemotePolicy) -> None:
    with pytest.raises(PromptTooLongError, match="shorten"):
        remote.generate([ask(question="1 " * 700)])
    outgrown, fits = remote.generate([ask("1 + 1 = 2\n" * 120), ask()])
    assert outgrown.finish == "error" and "too long" in (outgrown.error or "")
    assert fits.finish == "stop"


def test_leaving_a_stream_frees_the_server_at_once(llama: str) -> None:
    policy = RemotePolicy(f"{llama}/v1", tokenizer="mini")
    policy.generate([ask()])
    before = counted(llama)["tokens_predicted_total"]
    endless = ask(most=400, stop=(), decoding=Decoding(temperature=1.0, logit_bias=((2, -100.0),)))
    told = policy.stream([endless])
    next(told)
    told.close()
    time.sleep(0.3)
    busy = counted(llama)["requests_processing"]
    assert busy == 0
    assert counted(llama)["tokens_predicted_total"] - before < 400
    policy.close()


async def test_cancelling_leaves_the_server(llama: str) -> None:
    policy = RemotePolicy(f"{llama}/v1", tokenizer="mini")
    endless = ask(most=450, stop=(), decoding=Decoding(temperature=1.0, logit_bias=((2, -100.0),)))
    task = asyncio.create_task(policy.agenerate([endless] * 8))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    end = time.monotonic() + 5
    while counted(llama)["requests_processing"] and time.monotonic() < end:  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    assert counted(llama)["requests_processing"] == counted(llama)["requests_deferred"] == 0
    policy.close()


def test_special_tokens_stop_and_stand_in_the_prompt(make_model: MakeModel) -> None:
    """`<pad>` is a control token of the tiny models, which shows in no text of a server by itself."""
    path = make_model(context=256)
    here = GGUFPolicy(path)
    bias = Decoding(temperature=0.0, logit_bias=((0, 9.0),))
    requests = [
        ask(stop=("<pad>",), stop_tokens=("<pad>",), decoding=bias),
        ask("7<pad>", stop=("<pad>",), stop_tokens=("<pad>",), decoding=GREEDY, most=8),
        ask(stop=(), end_tokens=("<pad>",), decoding=bias),
    ]
    expected = here.generate(requests)
    assert [one.finish for one in expected] == ["stop", expected[1].finish, "end"]
    with serving("llama.cpp", path, slots=1, context=256) as url:
        for file in (path, None):
            policy = RemotePolicy(f"{url}/v1", tokenizer=file)
            found = policy.generate(requests)
            # The server names no log-probability of a token that stopped it.
            assert [alike(one)[:4] for one in found] == [alike(one)[:4] for one in expected]
            with pytest.raises(InputError, match="no token '<none>'"):
                policy.generate([ask(stop=("<none>",), stop_tokens=("<none>",))])
            policy.close()
    here.close()


def test_grammars_hold_the_model(llama: str) -> None:
    policy = RemotePolicy(f"{llama}/v1", tokenizer="mini")
    decoding = Decoding(temperature=0.0, grammar='root ::= "7" "7" "7"')
    assert policy.generate([ask(stop=(), decoding=decoding)])[0].text == "777"
    policy.close()


CHAINS = [
    Candidate((Message(role="user", content=QUESTION),), steps, False)
    for steps in (("13 - 10 = 3 | 3 4 9",), ("13 - 10 = 3 | 3 4 9", "9 - 3 = 6 | 4 6"), ("1 + 1 = 3",))
]
SIGNS = Labels("1", "3", "{question}\n{steps}\n")


def test_labels_are_as_likely_as_in_this_process(remote: RemotePolicy) -> None:
    mini = load_policy("mini")
    assert isinstance(mini, GGUFPolicy)
    here = [one.value for one in LabelValue(mini, SIGNS).score(CHAINS)]
    told = RemoteLabelValue(remote, SIGNS).score(CHAINS)
    assert [one.error for one in told] == [None] * 3
    assert len(set(here)) == 3
    # The text of a label may begin several tokens, such as "1" and "13"; only the first token counts here.
    assert [one.value for one in told] == pytest.approx(here, abs=0.2)


def test_reward_models_in_their_formats_score_as_in_this_process(llama: str) -> None:
    from dataclasses import replace

    mini = load_policy("mini")
    assert isinstance(mini, GGUFPolicy)
    format = replace(MATH_SHEPHERD, tag="=", labels=("1", "3"))
    policy = RemotePolicy(f"{llama}/v1", tokenizer="mini")
    here, there = PRMValue(mini, format).score(CHAINS), remote_reward_model(policy, format).score(CHAINS)
    assert [one.error for one in there] == [None] * 3
    assert [one.value for one in there] == pytest.approx([one.value for one in here], abs=0.05)
    with pytest.raises(InputError, match="tokenizer=FILE"):
        load_value(f"math_shepherd:{llama}/v1", policy)
    policy.close()


def test_policy_and_value_may_live_on_different_servers(llama: str) -> None:
    with serving("llama.cpp", slots=2) as other:
        before = counted(other)["prompt_tokens_total"]
        reasoner = create_reasoner(
            "beam_search",
            f"{llama}/v1#tokenizer=mini",
            value=f"label:{other}/v1#tokenizer=mini",
            budget=Budget(tokens=100),
            seed=0,
        )
        reasoner.invoke({"messages": [("user", QUESTION)]})
        assert counted(other)["prompt_tokens_total"] > before


@pytest.mark.slow
@pytest.mark.parametrize("logits", [0, 1], ids=["no logprobs", "logprobs"])
def test_llama_cpp_server_goes_on_in_texts(logits: int) -> None:
    """It takes no tokens and tells no stop from an end: streams are left at the first stop."""
    here = load_policy("mini").generate(REQUESTS)
    with serving("llama_cpp", MINI, logits=logits, key="right") as url:
        policy = RemotePolicy(f"{url}/v1", tokenizer="mini", api_key="right", patience=Patience(tries=4))
        server = policy.probe()
        assert (server.dialect.name, server.logprobs) == ("llama-cpp-python", bool(logits))
        there = policy.generate([REQUESTS[0], REQUESTS[1], REQUESTS[2], REQUESTS[4]])
        expected = [here[0], here[1], here[2], here[4]]
        assert [(one.text, one.finish) for one in there] == [(one.text, one.finish) for one in expected]
        if logits:
            assert [one.logprob for one in there] == pytest.approx([one.logprob for one in expected], abs=0.2)
        else:
            assert [one.logprob for one in there] == [0.0] * 4
        with pytest.raises(InputError, match="control token"):
            policy.generate([REQUESTS[3]])
        policy.close()


def test_a_reasoner_that_we_serve_is_a_policy_of_whole_answers() -> None:
    """Our own server: what a search there answers, another one here may choose among."""
    with running({"mini": "mini"}, "chain") as url:
        policy = RemotePolicy(f"{url}/v1#chain:mini")
        assert policy.probe().dialect.name == "openai"
        request = Request((Message(role="user", content=QUESTION),), "", 200, 3, decoding=GREEDY)
        (one,) = policy.generate([request])
        state = create_reasoner("chain", "mini", seed=3).invoke({"messages": [("user", QUESTION)]})
        assert (one.text, one.tokens) == (state["answer"], state["usage"]["completion_tokens"])
        assert one.finish == "end"
        policy.close()
