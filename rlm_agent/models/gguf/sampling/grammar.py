"""Grammars that a text has to follow, by llama.cpp's own grammar sampler.

A grammar may come from a user, and llama.cpp trusts it: it descends once for each parenthesis, copies what
is repeated, and aborts the process where it is told of a token that it forbids. So its size is checked here
before llama.cpp sees it, and a token before it is accepted.
"""

import copy
import ctypes
import os
import re
import tempfile
import threading
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rlm_agent.models.gguf.file import ModelFile, binding
from rlm_agent.structure.errors import GrammarError

_LONGEST, _DEEPEST, _MOST, _COPIED = 100_000, 500, 2000, 100_000
_ROOT = re.compile(r"^[ \t]*root[ \t]*::=", re.MULTILINE)
_LEXEMES = re.compile(
    r"""\#[^\r\n]* | (?P<literal>"(?:[^"\\]|\\.)*") | \[(?:[^\]\\]|\\.)*\]
    | (?P<open>\() | (?P<close>\)) | \{\s*(?P<low>[0-9]+)\s*(?:,\s*(?P<high>[0-9]*)\s*)?\}""",
    re.VERBOSE | re.DOTALL,
)
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])
_stderr = threading.Lock()


class Grammar:
    """A grammar in GBNF with a rule `root`, and how far a text has got in it.

    A token that ends the generation is allowed exactly where the text is complete. The file must stay open
    for as long as the grammar; after `close` nothing may be asked of it.
    """

    _handle: Any = None

    def __init__(self, file: ModelFile, text: str) -> None:
        """`GrammarError` where `text` does not compile or would ask too much of llama.cpp."""
        _check(text)
        self._lib = binding()
        self._size = file.size
        self._handle, complaint = _compile(self._lib, file.vocabulary, text)
        if not self._handle:
            reason = complaint or "a rule begins with itself, or repeats what may be empty"
            raise GrammarError(
                f"the grammar does not compile ({reason}); correct it after llama.cpp's GBNF guide"
            )

    def __del__(self) -> None:
        """Free what was not closed."""
        self.close()

    def copy(self) -> Self:
        """Another grammar that has got as far as this one; cheaper than to compile the text again."""
        twin = copy.copy(self)
        twin._handle = self._lib.llama_sampler_clone(self._handle)
        return twin

    def allows(self, token: int) -> bool:
        """Whether `token` may come next; none may that is not in the vocabulary."""
        if not 0 <= token < self._size:
            return False
        candidates = np.zeros(1, dtype=_CANDIDATE)
        candidates["id"] = token
        self._apply(candidates)
        return bool(candidates["logit"][0] == 0)

    def mask(self, logits_row: NDArray[np.float32]) -> NDArray[np.float32]:
        """A copy of logits [vocabulary] with -inf where the grammar forbids the token."""
        tokens = np.flatnonzero(logits_row > -np.inf)
        candidates = np.zeros(len(tokens), dtype=_CANDIDATE)
        candidates["id"] = tokens
        candidates["logit"] = logits_row[tokens]
        self._apply(candidates)
        masked = np.full_like(logits_row, -np.inf)
        masked[tokens] = candidates["logit"]
        return masked

    def accept(self, token: int) -> None:
        """Go on by `token`; `GrammarError` where it is not allowed."""
        if not self.allows(token):
            raise GrammarError(f"the grammar forbids token {token} here; accept only what it allows")
        self._lib.llama_sampler_accept(self._handle, token)

    def close(self) -> None:
        """Free llama.cpp's part."""
        if self._handle:
            self._lib.llama_sampler_free(self._handle)
            self._handle = None

    def _apply(self, candidates: NDArray[np.void]) -> None:
        """Set the logits of candidates that are forbidden to -inf, in place."""
        data = candidates.ctypes.data_as(self._lib.llama_token_data_p)
        array = self._lib.llama_token_data_array(data, len(candidates), -1, False)
        self._lib.llama_sampler_apply(self._handle, ctypes.byref(array))


def _check(text: str) -> None:
    """Refuse what llama.cpp would not survive, or would read otherwise than it was meant."""
    if not _ROOT.search(text):
        raise GrammarError('the grammar has no rule "root"; begin it with root ::= …')
    if "\0" in text:
        raise GrammarError("the grammar holds a zero byte; write it as \\x00")
    if len(text) > _LONGEST:
        raise GrammarError(f"the grammar has {len(text)} characters; shorten it to {_LONGEST}")
    depth = copied = item = 0
    for lexeme in _LEXEMES.finditer(text):
        depth += (lexeme["open"] is not None) - (lexeme["close"] is not None)
        if depth > _DEEPEST:
            raise GrammarError(
                f"the grammar nests more than {_DEEPEST} parentheses; name inner rules instead"
            )
        if lexeme["low"]:
            copied += item * _times(lexeme["low"], lexeme["high"])
        item = len(lexeme["literal"] or "1")
    if copied > _COPIED:
        raise GrammarError(f"the grammar's repetitions copy {copied} items; let them come to {_COPIED}")


def _times(low: str, high: str | None) -> int:
    """How often {low,high} copies an item. llama.cpp would take a high bound that is too large for none."""
    if max(len(low), len(high or "")) > 4 or not int(low) <= int(high or low) <= _MOST:
        raise GrammarError(
            f"the grammar repeats {low} to {high or low} times; let the bounds rise, to {_MOST}"
        )
    return int(high or low)


def _compile(lib: Any, vocabulary: Any, text: str) -> tuple[Any, str]:
    """llama.cpp's sampler, null where the text is wrong, and its complaint.

    Its parser complains on stderr, past the log callback; so stderr lies elsewhere for that moment.
    """
    with _stderr, tempfile.TemporaryFile() as said:
        kept = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            handle = lib.llama_sampler_init_grammar(vocabulary, text.encode(errors="replace"), b"root")
        finally:
            os.dup2(kept, 2)
            os.close(kept)
        said.seek(0)
        first = said.readline().decode(errors="replace")
    return handle, first.partition("error parsing grammar: ")[2].strip()[:200]
