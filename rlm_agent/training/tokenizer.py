"""A byte-level BPE in GPT-2's manner, which llama.cpp reads from a GGUF without loss."""

from collections.abc import Iterable
from itertools import chain

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from rlm_agent.training import corpus

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
SPECIAL_TOKENS = (PAD, BOS, EOS)
"""Ids 0, 1 and 2. The newline ends a step, EOS ends the answer."""


def train_tokenizer(puzzle_lines: Iterable[str], *, size: int = 2048, seed: int = 0) -> Tokenizer:
    """Train on puzzle lines and on the corpus beside this module; `size` tokens at most.

    No string of text maps to a special token, so untrusted text cannot forge an end of answer.
    """
    return _trained(chain(corpus.numbers(200), puzzle_lines, corpus.lines(seed, 20_000)), size, _by_words())


def train_digit_tokenizer(text: Iterable[str], *, size: int = 2048) -> Tokenizer:
    """Train on `text` so that each digit is a token of its own; see `train_tokenizer`.

    Digits are kept apart while merges are learned. Since no merge has a digit in it, texts may be split as
    GPT-2 does afterwards, as a GGUF says that they are.
    """
    apart = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _by_words()])
    tokenizer = _trained(text, size, apart)
    tokenizer.pre_tokenizer = _by_words()
    return tokenizer


def _by_words() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def _trained(text: Iterable[str], size: int, pre_tokenizer: pre_tokenizers.PreTokenizer) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(text, trainer)
    return tokenizer


def encode(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of plain text; `<s>` and the like in it are spelled out as characters."""
    tokenizer.encode_special_tokens = True
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids
