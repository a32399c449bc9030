"""Writing GGUF files, by the gguf package: what all of ours have in common."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rlm_agent.structure.errors import MissingExtraError

if TYPE_CHECKING:
    from gguf import GGUFWriter


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a llama: `width` of the residual stream, `feed_forward` inside a block, in numbers.

    `width` is a multiple of `heads`; `vocabulary` and `context` are in tokens.
    """

    vocabulary: int
    width: int
    layers: int
    heads: int
    feed_forward: int
    context: int = 8192
    rope_base: float = 10_000.0
    norm_eps: float = 1e-5

    @property
    def head_width(self) -> int:
        """How many numbers a head of the attention has."""
        return self.width // self.heads


@contextmanager
def gguf_writer(path: Path, architecture: str) -> Iterator["GGUFWriter"]:
    """A writer for a block, behind which all that was added stands in `path`.

    The file is replaced whole or not at all. Raises `MissingExtraError` without gguf.
    """
    try:
        from gguf import GGUFWriter
    except ImportError as error:
        raise MissingExtraError("gguf", "bench") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        writer = GGUFWriter(partial, architecture)
        try:
            yield writer
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def add_sizes(writer: "GGUFWriter", sizes: Sizes) -> None:
    """The metadata by which llama.cpp builds a llama with as many heads for keys as for queries."""
    writer.add_vocab_size(sizes.vocabulary)
    writer.add_context_length(sizes.context)
    writer.add_embedding_length(sizes.width)
    writer.add_block_count(sizes.layers)
    writer.add_feed_forward_length(sizes.feed_forward)
    writer.add_head_count(sizes.heads)
    writer.add_head_count_kv(sizes.heads)
    writer.add_rope_dimension_count(sizes.head_width)
    writer.add_rope_freq_base(sizes.rope_base)
    writer.add_layer_norm_rms_eps(sizes.norm_eps)


def add_vocabulary(
    writer: "GGUFWriter",
    tokens: Sequence[str],
    merges: Sequence[tuple[str, str]],
    *,
    bos: str,
    eos: str,
    pad: str,
) -> None:
    """A byte-level BPE that splits as GPT-2 does; `bos`, `eos` and `pad` are its control tokens."""
    from gguf import TokenType

    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    control = (bos, eos, pad)
    writer.add_token_types([TokenType.CONTROL if t in control else TokenType.NORMAL for t in tokens])
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_pad_token_id(tokens.index(pad))
    writer.add_bos_token_id(tokens.index(bos))
    writer.add_eos_token_id(tokens.index(eos))
    writer.add_add_eos_token(False)
