"""Tiny models of random numbers, of architectures that `mini` is not, and trees that are grown with them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from gguf import GGUFWriter, TokenType
from numpy.typing import NDArray

from rlm_agent.bench.models import add_letters
from rlm_agent.models.gguf.engine.engine import Engine
from rlm_agent.models.gguf.engine.jobs import Job
from rlm_agent.models.gguf.writing import Sizes, add_sizes, gguf_writer

SIZES = Sizes(width=64, layers=4, heads=2, feed_forward=96, vocabulary=320, context=512)
LLAMA = Sizes(width=256, layers=2, heads=4, feed_forward=512, vocabulary=320, context=512)
PIECES = 448
WORDS = ("Hello", "world", "Step", "one", "two", "INST", "user")
CONTROL = ("<s>", "</s>", "<|user|>", "<|end|>")
GROUPS, EXPERTS, USED = 2, 8, 4
INNER, STATE, RANK, KERNEL = 128, 4, 4, 4

Tensor = Callable[..., None]
Path_ = tuple[int, ...]


def tensors(writer: GGUFWriter, sizes: Sizes) -> Tensor:
    """Adds a tensor of random numbers by its name and shape."""
    random = np.random.default_rng(0)

    def add(name: str, *shape: int, mean: float = 0.0) -> None:
        values: NDArray[np.float32] = random.standard_normal(shape).astype(np.float32)
        writer.add_tensor(name, values * (2.0 * shape[-1] ** -0.5 if not mean else 0.1) + np.float32(mean))

    add("token_embd.weight", sizes.vocabulary, sizes.width)
    add("output_norm.weight", sizes.width, mean=1.0)
    return add


def write_windowed(path: Path, window: int, *, causal: bool = True) -> Path:
    """Three layers with a sliding window of so many tokens, and one without (cohere2)."""
    with gguf_writer(path, "cohere2") as writer:
        add_sizes(writer, SIZES)
        add_letters(writer, SIZES.vocabulary)
        writer.add_layer_norm_eps(1e-5)
        writer.add_logit_scale(1.0)
        writer.add_sliding_window(window)
        writer.add_causal_attention(causal)
        add, width, inside = tensors(writer, SIZES), SIZES.width, SIZES.feed_forward
        for layer in range(SIZES.layers):
            add(f"blk.{layer}.attn_norm.weight", width, mean=1.0)
            for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
                add(f"blk.{layer}.{name}.weight", width, width)
            add(f"blk.{layer}.ffn_gate.weight", inside, width)
            add(f"blk.{layer}.ffn_up.weight", inside, width)
            add(f"blk.{layer}.ffn_down.weight", width, inside)
    return path


def write_recurrent(path: Path) -> Path:
    """A state space model of one layer (mamba)."""
    with gguf_writer(path, "mamba") as writer:
        add_sizes(writer, replace(SIZES, layers=1))
        add_letters(writer, SIZES.vocabulary)
        writer.add_ssm_conv_kernel(KERNEL)
        writer.add_ssm_inner_size(INNER)
        writer.add_ssm_state_size(STATE)
        writer.add_ssm_time_step_rank(RANK)
        add, width = tensors(writer, SIZES), SIZES.width
        add("blk.0.attn_norm.weight", width, mean=1.0)
        add("blk.0.ssm_in.weight", 2 * INNER, width)
        add("blk.0.ssm_conv1d.weight", INNER, KERNEL)
        add("blk.0.ssm_conv1d.bias", INNER)
        add("blk.0.ssm_x.weight", RANK + 2 * STATE, INNER)
        add("blk.0.ssm_dt.weight", INNER, RANK)
        add("blk.0.ssm_dt.bias", INNER)
        add("blk.0.ssm_a", INNER, STATE, mean=-1.0)
        add("blk.0.ssm_d", INNER, mean=1.0)
        add("blk.0.ssm_out.weight", width, INNER)
    return path


def add_sentencepiece(writer: GGUFWriter, template: str) -> None:
    """A vocabulary that puts a space before whatever it tokenizes: letters, words and bytes."""
    letters = ["▁", *map(chr, range(33, 127))]
    begun = dict.fromkeys(word[:end] for word in WORDS for end in range(2, len(word) + 1))
    tokens = {"<unk>": TokenType.UNKNOWN}
    tokens |= dict.fromkeys(CONTROL, TokenType.CONTROL)
    tokens |= {f"<0x{byte:02X}>": TokenType.BYTE for byte in range(256)}
    tokens |= dict.fromkeys([*begun, *(f"▁{word}" for word in WORDS), *letters], TokenType.NORMAL)
    names = list(tokens)
    names += [f"<unused{number}>" for number in range(PIECES - len(names))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(names)
    writer.add_token_scores([-float(place) for place in range(PIECES)])
    writer.add_token_types([tokens.get(name, TokenType.UNUSED) for name in names])
    writer.add_bos_token_id(names.index("<s>"))
    writer.add_eos_token_id(names.index("</s>"))
    writer.add_chat_template(template)


def write_llama(path: Path, *, experts: bool = False, sentencepiece: str | None = None) -> Path:
    """A llama with two heads of queries for each of keys.

    With `experts` each token takes half of them; with a template it has a vocabulary by SentencePiece.
    """
    sizes = LLAMA if sentencepiece is None else replace(LLAMA, vocabulary=PIECES)
    with gguf_writer(path, "llama") as writer:
        add_sizes(writer, sizes)
        if sentencepiece is None:
            add_letters(writer, sizes.vocabulary)
        else:
            add_sentencepiece(writer, sentencepiece)
        writer.kv_data[0]["llama.attention.head_count_kv"].value = GROUPS
        if experts:
            writer.add_expert_count(EXPERTS)
            writer.add_expert_used_count(USED)
        add, width, inside = tensors(writer, sizes), LLAMA.width, LLAMA.feed_forward
        shared = width * GROUPS // LLAMA.heads
        for layer in range(LLAMA.layers):
            block, many = f"blk.{layer}", (EXPERTS,) if experts else ()
            add(f"{block}.attn_norm.weight", width, mean=1.0)
            add(f"{block}.ffn_norm.weight", width, mean=1.0)
            for name, rows in (("q", width), ("k", shared), ("v", shared), ("output", width)):
                add(f"{block}.attn_{name}.weight", rows, width)
            if experts:
                add(f"{block}.ffn_gate_inp.weight", EXPERTS, width)
            kind = "_exps" if experts else ""
            add(f"{block}.ffn_gate{kind}.weight", *many, inside, width)
            add(f"{block}.ffn_up{kind}.weight", *many, inside, width)
            add(f"{block}.ffn_down{kind}.weight", *many, width, inside)
    return path


def a_tree(engine: Engine, rounds: int, *, forgetful: bool, width: int = 4) -> list[Path_]:
    """Paths that fork from anywhere on older ones, `width` at a time, or each by itself in an empty cache."""
    random = np.random.default_rng(5)
    paths: list[Path_] = [tuple(random.integers(3, 300, 70).tolist())]
    for turn in range(rounds):
        jobs = []
        for branch in range(width):
            path = paths[random.integers(len(paths))]
            start = path[: random.integers(1, len(path) + 1)]
            jobs.append(Job(start[:200], 30, seed=width * turn + branch, ends=False))
        results = []
        for some in [[job] for job in jobs] if forgetful else [jobs]:
            if forgetful:
                engine.forget()
            results += engine.complete(some)
        paths += [job.prompt + result.tokens for job, result in zip(jobs, results, strict=True)]
    return paths
