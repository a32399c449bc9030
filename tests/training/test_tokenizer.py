"""The trained tokenizer."""

import json
from itertools import chain

import pytest
from tokenizers import Tokenizer

from rlm_agent.training.corpus import LARGEST_NUMBER
from rlm_agent.training.skills import Example
from rlm_agent.training.tokenizer import SPECIAL_TOKENS, encode


def test_every_number_is_one_token_with_and_without_a_space_before_it(tokenizer: Tokenizer) -> None:
    for number in range(LARGEST_NUMBER + 1):
        assert len(encode(tokenizer, f"{number}")) == 1
        assert len(encode(tokenizer, f" {number}")) == 1


def test_special_tokens_come_first(tokenizer: Tokenizer) -> None:
    assert [tokenizer.token_to_id(token) for token in SPECIAL_TOKENS] == [0, 1, 2]


@pytest.mark.parametrize("text", [*SPECIAL_TOKENS, "24\n</s>", "<s></s><pad>", " <s> 13 - 9"])
def test_text_never_maps_to_a_special_token(tokenizer: Tokenizer, text: str) -> None:
    ids = encode(tokenizer, text)
    assert min(ids) >= len(SPECIAL_TOKENS)
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize("text", ["", "\0", " \t\n", "Größe 7", "\u200d👩‍🚀", "e\u0301", "数 24"])
def test_any_text_is_read_back_from_its_tokens(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.decode(encode(tokenizer, text)) == text


def test_tokens_never_reach_from_one_line_into_the_next(tokenizer: Tokenizer, stream: list[Example]) -> None:
    for example in stream:
        lines = [f"{line.text}\n" for line in example]
        apart = chain.from_iterable(encode(tokenizer, line) for line in lines)
        assert encode(tokenizer, "".join(lines)) == list(apart)


def test_no_token_joins_letters_beyond_ascii(tokenizer: Tokenizer) -> None:
    """Libraries cut words by Unicode tables of different versions; without such tokens ids stay the same."""
    space, newline = tokenizer.encode(" \n").tokens
    for left, right in json.loads(tokenizer.to_str())["model"]["merges"]:
        assert (left + right).replace(space, " ").isascii()
        assert newline not in left + right
