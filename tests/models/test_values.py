"""Values over llama.cpp against torch, alone and in company."""

import asyncio
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch import nn

from rlm_agent.graphs.reasoner import create_reasoner
from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.models.gguf.values.labels import Labels
from rlm_agent.models.gguf.values.values import HeadValue, LabelValue
from rlm_agent.models.protocols import Candidate, Message, Request
from rlm_agent.models.resolve import load_value
from rlm_agent.structure.budget import Budget
from rlm_agent.structure.errors import InputError
from rlm_agent.structure.steps import Steps
from rlm_agent.training.decoder import Decoder
from rlm_agent.training.tokenizer import encode
from tests.models.chains import candidate, candidates
from tests.models.conftest import MakeDecoder

BOS, EOS = 1, 2
LABELS = Labels("+", "-", "{question}: {steps} =>", "<{step}>")


def hidden(decoder: Decoder, ids: list[int]) -> torch.Tensor:
    """The hidden state at the last of these tokens, in torch."""
    with torch.no_grad():
        return decoder(torch.tensor([ids]))[0, -1]  # type: ignore[no-any-return]


def expected(decoder: Decoder, tokenizer: Tokenizer, nets: list[nn.Sequential], chain: Candidate) -> float:
    """The question on a line, the steps a line each; a finished chain ends in EOS instead of a newline."""
    text = "\n".join(chain.steps) + ("\n" if chain.steps and not chain.final else "")
    ids = [BOS, *(token for part in (question(chain), "\n", text) for token in encode(tokenizer, part))]
    state = hidden(decoder, [*ids, EOS] if chain.final else ids)
    with torch.no_grad():
        return float(np.mean([float(net(state).sigmoid()) for net in nets]))


def question(chain: Candidate) -> str:
    return chain.messages[0]["content"]


def test_scores_are_those_of_torch_batched_and_alone(
    policy: GGUFPolicy, make_decoder: MakeDecoder, tokenizer: Tokenizer, nets: list[nn.Sequential]
) -> None:
    value, chains = HeadValue(policy), candidates()
    torchs = [expected(make_decoder(), tokenizer, nets, chain) for chain in chains]
    assert np.std(torchs) > 0.02
    together = value.score(chains)
    policy.engine.forget()
    alone = [value.score([chain])[0] for chain in chains]
    for scores in (together, alone):
        assert [score.error for score in scores] == [None] * len(chains)
        assert np.abs(np.array([score.value for score in scores]) - torchs).max() < 1e-3


@pytest.mark.parametrize("kind", ["head", "label"])
def test_a_score_is_the_same_to_the_bit_in_any_company(policy: GGUFPolicy, kind: str) -> None:
    value, chains = load_value(kind, policy), candidates(40)
    assert value is not None
    alone = []
    for chain in chains:
        policy.engine.forget()
        alone.append(value.score([chain])[0].value)
    for size in (2, 5, 40):
        order = random.Random(size).sample(range(40), 40)
        for start in range(0, 40, size):
            part = order[start : start + size]
            scores = value.score([chains[index] for index in part])
            assert [score.value for score in scores] == [alone[index] for index in part]


def test_plain_and_async_scores_are_alike(policy: GGUFPolicy) -> None:
    for value in (HeadValue(policy), LabelValue(policy, LABELS)):
        plain = [score.value for score in value.score(candidates())]
        assert [score.value for score in asyncio.run(value.ascore(candidates()))] == plain
        assert value.score([]) == asyncio.run(value.ascore([])) == []


def test_after_its_policy_wrote_a_step_a_value_computes_the_delimiter_only(policy: GGUFPolicy) -> None:
    policy.engine.forget()
    messages = candidate("4 9 10 13").messages
    written = policy.generate([Request(messages, "", 4, 0)])[0]
    (score,) = HeadValue(policy).score([Candidate(messages, (), False)])
    assert score.prompt_tokens <= 1
    (score,) = HeadValue(policy).score([Candidate(messages, ("1 2", "3 4"), False)])
    (again,) = HeadValue(policy).score([Candidate(messages, ("1 2", "3 4", "5"), False)])
    assert written.error is None
    assert again.prompt_tokens < score.prompt_tokens


def test_label_value_is_the_softmax_of_two_logits(
    policy: GGUFPolicy, make_decoder: MakeDecoder, tokenizer: Tokenizer
) -> None:
    """The cache holds halves, which moves the logits of this model, .01 at most of a deviation of 2.4."""
    decoder, chains, wanted = make_decoder(), candidates(12), []
    chains.append(candidate("what is", "1 2", "{steps}{question}"))
    good, bad = (encode(tokenizer, label)[0] for label in (LABELS.good, LABELS.bad))
    for chain in chains:
        text = f"{question(chain)}: " + "\n".join(f"<{step}>" for step in chain.steps) + " =>"
        state = hidden(decoder, [BOS, *encode(tokenizer, text), *encode(tokenizer, "\n")])
        wanted.append(float(decoder.logits(state)[[good, bad]].softmax(0)[0].detach()))
    scores = [score.value for score in LabelValue(policy, LABELS).score(chains)]
    assert np.abs(np.array(scores) - wanted).max() < 3e-3
    assert np.std(wanted) > 0.1


def test_labels_leave_the_system_prompt_out() -> None:
    chain = Candidate(
        (Message(role="system", content="Be brief."), Message(role="user", content="Why?")), ("So.",), True
    )
    (message,) = LABELS.messages(chain)
    assert message == {"role": "user", "content": "Why?: <So.> =>"}


def test_labels_that_cannot_be_told_apart_are_refused(policy: GGUFPolicy) -> None:
    for labels in (Labels("+", "+", "{steps}"), Labels("Yes", "Yeti", "{steps}"), Labels("+", "", "{steps}")):
        with pytest.raises(InputError, match=r"begin with the same token; choose others|label is empty"):
            LabelValue(policy, labels)
    for bad in ({"ask": "Right?"}, {"ask": "{steps}", "step": "-"}):
        with pytest.raises(InputError, match="leaves the chain out"):
            Labels("+", "-", **bad)


def test_a_chain_that_is_too_long_harms_no_other(model: Path) -> None:
    policy = GGUFPolicy(model, context=100)
    long = [
        candidate("why", *["1 2 3 ?"] * 60),
        candidate("why " * 200),
        candidate("why", "?+" * 60, final=True),
    ]
    for value in (HeadValue(policy), LabelValue(policy, LABELS)):
        fine = value.score([candidate("why", "1 2")])[0]
        scores = value.score([long[0], candidate("why", "1 2"), *long[1:]])
        assert scores[1].value == fine.value and scores[1].error is None
        for index in (0, 2, 3):
            assert "tokens" in str(scores[index].error) and scores[index].value == 0.0
        assert value.score(long[1:2])[0].error == scores[2].error
    policy.close()


@pytest.mark.parametrize("name", ["head", "label"])
def test_a_strategy_takes_a_value_by_its_name(model: Path, name: str) -> None:
    reasoner = create_reasoner(
        "beam_search", model, value=name, steps=Steps(max_steps=2), budget=Budget(tokens=200), seed=0
    )
    answers = [reasoner.invoke({"messages": [("user", "what is")]}) for _ in range(2)]
    assert answers[0]["usage"]["completion_tokens"] > 0
    assert answers[0]["answer"] == answers[1]["answer"]
