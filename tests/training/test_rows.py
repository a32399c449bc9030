"""Rows of token ids: to the letter what the exported model is asked, skill by skill."""

import pytest
import torch
from tokenizers import Tokenizer

from rlm_agent import GGUFPolicy
from rlm_agent.models.patterns import fill
from rlm_agent.models.protocols import Message
from rlm_agent.training.decoder import Decoder, DecoderConfig
from rlm_agent.training.export import export_gguf
from rlm_agent.training.rows import Row, rows
from rlm_agent.training.skills import ASKS, Example, Line
from rlm_agent.training.tokenizer import EOS

LONGEST = 512
QUESTION = Line("4 9 10 13 : 24")
STEPS = ("13 - 9 = 4 | 4 4 10", "10 - 4 = 6 | 4 6", "6 * 4 = 24")


@pytest.fixture(scope="module")
def policy(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> GGUFPolicy:
    torch.manual_seed(0)
    sizes = {"width": 32, "layers": 1, "heads": 2, "feed_forward": 32, "context": LONGEST}
    model = Decoder(DecoderConfig(vocabulary=tokenizer.get_vocab_size(), **sizes))
    path = tmp_path_factory.mktemp("rows") / "model.gguf"
    export_gguf(model, tokenizer, path)
    return GGUFPolicy(path)


def row(example: Example, tokenizer: Tokenizer) -> Row:
    (one,) = rows(iter([example]), tokenizer, longest=LONGEST)
    return one


def turns(example: Example) -> tuple[list[Message], str]:
    """The conversation before the last turn of the model, and that turn, with its newline if unfinished."""
    texts = [line.text for line in example]
    if "critique" in texts:
        at = texts.index("critique")
        messages = [
            Message(role="user", content=texts[0]),
            Message(role="assistant", content="\n".join(texts[1:at])),
            Message(role="user", content=ASKS["critique"]),
        ]
        if "rewrite" not in texts:
            return messages, texts[-1]
        reply = Message(role="assistant", content=texts[at + 1])
        return [*messages, reply, Message(role="user", content=ASKS["rewrite"])], "\n".join(texts[at + 3 :])
    if "prefer" in texts:
        return [Message(role="user", content="\n".join(texts[:-1]))], texts[-1]
    if texts[1] == "coat":
        return [Message(role="user", content=fill(ASKS["coat"], question=texts[0]))], "\n".join(texts[2:])
    end = "" if example[-1].ends else "\n"
    return [Message(role="user", content=texts[0])], "\n".join(texts[1:]) + end


def test_rows_are_what_the_policy_is_given_in_every_skill(
    policy: GGUFPolicy, tokenizer: Tokenizer, stream: list[Example]
) -> None:
    eos = tokenizer.token_to_id(EOS)
    asked = set()
    for example in stream[:300]:
        messages, reply = turns(example)
        asked.add(messages[-1]["content"].split("\n")[-1])
        ended = [eos] if example[-1].ends else []
        assert [*policy.prompt(messages, reply), *ended] == row(example, tokenizer).tokens, example
    assert {"critique", "rewrite", "prefer", "coat"} <= asked


def test_the_newline_or_the_end_after_a_learned_line_is_learned_with_it(tokenizer: Tokenizer) -> None:
    first, second, third = STEPS
    example = (QUESTION, Line(first), Line(second, learned=True), Line(third, learned=True, ends=True))
    one = row(example, tokenizer)
    learned = [token for token, learn in zip(one.tokens, one.learned, strict=True) if learn]
    assert tokenizer.decode(learned, skip_special_tokens=False) == f"{second}\n{third}{EOS}"


def test_the_newline_after_an_ended_turn_is_the_templates_and_not_learned(tokenizer: Tokenizer) -> None:
    one = row((QUESTION, Line("right", learned=True, ends=True), Line("rewrite")), tokenizer)
    learned = [token for token, learn in zip(one.tokens, one.learned, strict=True) if learn]
    assert tokenizer.decode(learned, skip_special_tokens=False) == f"right{EOS}"


def test_values_are_read_at_the_newline_after_a_step(tokenizer: Tokenizer) -> None:
    first, second, third = STEPS
    example = (QUESTION, Line(first, reach=True), Line(second, reach=False), Line(third, ends=True))
    one = row(example, tokenizer)
    assert list(one.reach.values()) == [True, False]
    for place, text in zip(one.reach, (f"{first}\n", f"{first}\n{second}\n"), strict=True):
        assert tokenizer.decode(one.tokens[1 : place + 1]).endswith(text)


def test_conversations_that_do_not_fit_are_left_out(tokenizer: Tokenizer) -> None:
    long = (QUESTION, *(Line(STEPS[0]) for _ in range(100)))
    (kept,) = rows(iter([long, (QUESTION,)]), tokenizer, longest=64)
    assert kept == row((QUESTION,), tokenizer)
