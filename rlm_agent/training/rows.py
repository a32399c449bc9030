"""Conversations as rows of token ids, to the letter as the chat template and the policy put them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from tokenizers import Tokenizer

from rlm_agent.training.skills import Example, Line
from rlm_agent.training.tokenizer import BOS, EOS, SPECIAL_TOKENS, encode

_BOS, _EOS = SPECIAL_TOKENS.index(BOS), SPECIAL_TOKENS.index(EOS)
_KNOWN = 200_000


@dataclass(slots=True)
class Row:
    """Token ids; which of them are to be predicted; and at which places the target is in reach, or not."""

    tokens: list[int] = field(default_factory=lambda: [_BOS])
    learned: list[bool] = field(default_factory=lambda: [False])
    reach: dict[int, bool] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.tokens)

    def add(self, tokens: list[int], learned: bool) -> None:
        """Append tokens that are all learned, or not."""
        self.tokens += tokens
        self.learned += [learned] * len(tokens)


def rows(examples: Iterator[Example], tokenizer: Tokenizer, *, longest: int) -> Iterator[Row]:
    """The examples as rows; those of more than `longest` tokens are left out."""

    @lru_cache(_KNOWN)
    def known(text: str) -> list[int]:
        return encode(tokenizer, text)

    (newline,) = known("\n")
    for example in examples:
        row = Row()
        for line in example:
            _add(row, line, known(line.text), newline)
        if example[-1].ends:
            row.tokens.pop()  # nothing follows the last turn
            row.learned.pop()
        if len(row) <= longest:
            yield row


def _add(row: Row, line: Line, tokens: list[int], newline: int) -> None:
    """A line and what follows it: the newline alone is fed after a step, as where a value head reads."""
    row.add(tokens, line.learned)
    if line.ends:
        row.add([_EOS], line.learned)
    row.add([newline], line.learned and not line.ends)
    if line.reach is not None:
        row.reach[len(row) - 1] = line.reach
