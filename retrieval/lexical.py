"""Ranking by words: BM25 (Robertson et al.; Lucene's variant) by bm25s, over all chunks of a store."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlm_agent.retrieval.extras import needed

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]

# A word is a run of letters and digits, single ones included: "5 kg" differs from "7 kg".
_WORD = r"(?u)\w+"

_ARRAYS = {"data": np.float32, "indices": np.int32, "indptr": np.int64}


class LexicalIndex:
    """BM25 with k1 = 1.5 and b = 0.75; no stop words, as rare words outweigh them in any language.

    The weights of words follow from all texts together, so an index is made anew when texts come or go.
    """

    def __init__(self, rows: Rows, bm25: Any) -> None:
        """`bm25` is bm25s's, over the texts of `rows` in order; None where they have no word."""
        self.rows = rows
        self._bm25 = bm25

    def search(self, query: str, depth: int, keep: Rows | None = None) -> tuple[Rows, Scores]:
        """Rows and scores of the best `depth` chunks that share a word with the query, best first.

        Of equal scores the lower row comes first. Only rows in `keep` count, where it is given.
        """
        tokens = [] if self._bm25 is None else self._bm25.get_tokens_ids(words(query))
        if not tokens:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        scores = self._bm25.get_scores_from_ids(tokens)
        if keep is not None:
            scores = np.where(np.isin(self.rows, keep), scores, 0)
        found = np.flatnonzero(scores > 0)
        if len(found) > depth:
            least = np.partition(scores[found], len(found) - depth)[len(found) - depth]
            found = found[scores[found] >= least]
        best = found[np.lexsort((found, -scores[found]))][:depth]
        return self.rows[best], scores[best]

    def write(self, path: Path) -> None:
        """Write the index to a file, as arrays alone."""
        arrays: dict[str, Any] = {"rows": self.rows}
        if self._bm25 is not None:
            held = self._bm25.scores
            arrays |= {name: np.asarray(held[name], kind) for name, kind in _ARRAYS.items()}
            vocabulary = json.dumps(self._bm25.vocab_dict).encode()
            arrays["vocabulary"] = np.frombuffer(vocabulary, np.uint8)
        with path.open("wb") as stream:
            np.savez(stream, **arrays)


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    (tokens,) = needed("bm25s").tokenize(
        [text], stopwords=[], token_pattern=_WORD, return_ids=False, show_progress=False
    )
    found: list[str] = tokens
    return found


def make_lexical(texts: Iterable[tuple[int, str]]) -> LexicalIndex:
    """An index of texts by row, rows ascending."""
    bm25s = needed("bm25s")
    pairs = list(texts)
    rows = np.array([row for row, _ in pairs], np.int64)
    tokens = bm25s.tokenize(
        [text for _, text in pairs], stopwords=[], token_pattern=_WORD, show_progress=False
    )
    if not any(tokens.ids):
        return LexicalIndex(rows, None)
    bm25 = bm25s.BM25()
    bm25.index((tokens.ids, tokens.vocab), show_progress=False, create_empty_token=False)
    return LexicalIndex(rows, bm25)


def read_lexical(path: Path) -> LexicalIndex:
    """Read what `LexicalIndex.write` wrote; `ValueError` where it is something else."""
    try:
        with np.load(path, allow_pickle=False) as held:
            arrays = {name: held[name] for name in held.files}
        rows = arrays.pop("rows").astype(np.int64)
        vocabulary = json.loads(bytes(arrays.pop("vocabulary", b"null")))
    except (KeyError, OSError, EOFError) as error:
        raise ValueError(f"{path} holds no lexical index") from error
    if vocabulary is None:
        return LexicalIndex(rows, None)
    if not _fits(arrays, len(rows), vocabulary):
        raise ValueError(f"{path} holds no lexical index")
    bm25 = needed("bm25s").BM25()
    bm25.scores = {**arrays, "num_docs": len(rows)}
    bm25.nonoccurrence_array = None
    bm25.vocab_dict = vocabulary
    return LexicalIndex(rows, bm25)


def _fits(arrays: dict[str, Any], count: int, vocabulary: Any) -> bool:
    """Whether a matrix of words and texts is one, so that no search can reach beyond its arrays."""
    if arrays.keys() != _ARRAYS.keys() or not isinstance(vocabulary, dict):
        return False
    starts, indices = arrays["indptr"], arrays["indices"]
    return (
        all(arrays[name].dtype == kind and arrays[name].ndim == 1 for name, kind in _ARRAYS.items())
        and len(arrays["data"]) == len(indices)
        and all(isinstance(token, int) and 0 <= token < len(starts) - 1 for token in vocabulary.values())
        and bool((np.diff(starts) >= 0).all() and starts[0] == 0 and starts[-1] == len(indices))
        and bool(((indices >= 0) & (indices < max(count, 1))).all())
    )
