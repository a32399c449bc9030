"""GGUF files with random weights: what is computed means nothing, and takes as long as if it did."""

from itertools import islice, product
from pathlib import Path
from string import ascii_letters
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rlm_agent.models.gguf.writing import Sizes, add_sizes, add_vocabulary, gguf_writer

if TYPE_CHECKING:
    import gguf

_BLOCK = 32  # weights of a Q8_0 block, which share one scale
_SPREAD = 127 / 3**0.5  # the standard deviation of whole numbers drawn evenly from -127 to 127
_SPECIAL = ("<s>", "</s>", "<pad>")


SIZES = {
    "5m": Sizes(width=256, layers=6, heads=8, feed_forward=512, vocabulary=4096),
    "125m": Sizes(width=768, layers=12, heads=12, feed_forward=2560, vocabulary=32_000),
    "500m": Sizes(width=1280, layers=22, heads=20, feed_forward=3712, vocabulary=32_000),
}
"""By the number of weights, the embedding counted once: it serves as the output too."""


def make_random_model(path: Path, sizes: Sizes, seed: int = 0) -> None:
    """Write a Q8_0 GGUF of the `llama` architecture to `path`, which is replaced whole or not at all.

    `width` and `feed_forward` are multiples of 32, and there are 260 to about 140,000 tokens. Logits have a
    standard deviation of about 1.5, so that sampling at temperature 1 neither repeats itself nor is even.
    Raises `MissingExtraError` without gguf.
    """
    with gguf_writer(path, "llama") as writer:
        writer.add_name("random weights")
        add_sizes(writer, sizes)
        add_letters(writer, sizes.vocabulary)
        _add_weights(writer, sizes, seed)


def add_letters(writer: "gguf.GGUFWriter", count: int) -> None:
    """A byte-level BPE of `count` tokens: those that control, one a byte, pairs and triples of letters."""
    letters = list(ascii_letters)
    pairs = list(product(letters, letters))
    triples = ((a + b, c) for (a, b), c in product(pairs, letters))
    alphabet = _alphabet()
    merges = [*pairs, *islice(triples, max(0, count - len(pairs)))][: count - len(_SPECIAL) - len(alphabet)]
    bos, eos, pad = _SPECIAL
    add_vocabulary(writer, [*_SPECIAL, *alphabet, *map("".join, merges)], merges, bos=bos, eos=eos, pad=pad)
    writer.add_add_bos_token(False)


def _alphabet() -> list[str]:
    """The characters that GPT-2 writes for the 256 bytes: printable ones themselves, others from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


def _add_weights(writer: "gguf.GGUFWriter", size: Sizes, seed: int) -> None:
    import gguf

    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    random = np.random.default_rng(seed)
    width = size.width

    def matrix(name: str, rows: int, columns: int, gain: float = 1.0) -> None:
        weights = _random_q8_0(random, rows, columns, gain * columns**-0.5)
        writer.add_tensor(f"{name}.weight", weights, raw_dtype=gguf.GGMLQuantizationType.Q8_0)

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))

    matrix("token_embd", size.vocabulary, width, gain=1.5)
    norm("output_norm")
    for layer in range(size.layers):
        norm(f"blk.{layer}.attn_norm")
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{layer}.{part}", width, width)
        norm(f"blk.{layer}.ffn_norm")
        matrix(f"blk.{layer}.ffn_gate", size.feed_forward, width)
        matrix(f"blk.{layer}.ffn_up", size.feed_forward, width)
        matrix(f"blk.{layer}.ffn_down", width, size.feed_forward)


def _random_q8_0(random: np.random.Generator, rows: int, columns: int, spread: float) -> NDArray[np.uint8]:
    """Evenly distributed weights [rows, columns] of a standard deviation, as Q8_0 bytes.

    Out come [rows, columns / 32 × 34]: a scale in half precision, then 32 numbers of a byte each.
    """
    blocks = np.empty((rows, columns // _BLOCK, _BLOCK + 2), np.uint8)
    scale = np.array([spread / _SPREAD], np.float16)
    blocks[:, :, :2] = scale.view(np.uint8)
    blocks[:, :, 2:] = random.integers(-127, 128, (rows, columns // _BLOCK, _BLOCK), np.int8).view(np.uint8)
    return blocks.reshape(rows, -1)
