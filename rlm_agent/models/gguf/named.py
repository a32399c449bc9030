"""Texts in which some stretches stand for special tokens."""

import re
from collections.abc import Collection, Iterator

from rlm_agent.models.gguf.file import ModelFile, binding
from rlm_agent.structure.errors import InputError


def split_special(text: str, special: Collection[str]) -> Iterator[tuple[str, bool]]:
    """The text in pieces, and of each whether it is one of these texts of special tokens."""
    if not special:
        yield text, False
        return
    pattern = "|".join(map(re.escape, sorted(special, key=len, reverse=True)))
    for position, part in enumerate(re.split(f"({pattern})", text)):
        yield part, position % 2 == 1


class NamedTokens:
    """The special tokens of a vocabulary by their texts."""

    def __init__(self, file: ModelFile) -> None:
        self._file = file
        self._named: dict[str, int] = {}

    @property
    def asked(self) -> tuple[str, ...]:
        """All texts that were asked for so far."""
        return tuple(self._named)

    def token(self, text: str) -> int:
        """The token of the vocabulary that has this very text; `InputError` where there is none."""
        if text not in self._named:
            tokens = self._file.tokenize(text, special=True)
            texts = [binding().llama_vocab_get_text(self._file.vocabulary, token) for token in tokens]
            if texts != [text.encode()]:
                raise InputError(
                    f"{self._file.path} has no token {text!r}; take a model whose vocabulary has it, or end "
                    "steps with plain text by Steps(delimiter=...)"
                )
            self._named[text] = tokens[0]
        return self._named[text]

    def tokenize(self, text: str, special: Collection[str] = ()) -> list[int]:
        """The tokens of a text behind another one, in which each of `special` stands for its token."""
        return [
            token
            for part, named in split_special(text, special)
            for token in ([self.token(part)] if named else self._file.continued(part))
        ]
