"""From a trained decoder and its tokenizer to one GGUF file that llama.cpp runs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import gguf
import numpy as np
import torch
from gguf.quants import quantize as quantized
from numpy.typing import NDArray
from tokenizers import Tokenizer

from rlm_agent.models.gguf.values.mlp import HeadWeights
from rlm_agent.models.gguf.writing import add_sizes, add_vocabulary, gguf_writer
from rlm_agent.structure.errors import InputError, UnknownNameError
from rlm_agent.training.decoder import Decoder
from rlm_agent.training.heads import add_head, require_fitting
from rlm_agent.training.skills import ASKS
from rlm_agent.training.tokenizer import BOS, EOS, PAD

Quantization = Literal["q8_0", "f16", "f32"]
FORMAT = 1
"""Version of the `rlm.*` keys, stored as `rlm.format`."""

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ message['content'] + '\\n' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token + '\\n' }}{% endif %}"
    "{% endfor %}"
)
"""Conversations as the model was trained on them: a turn begins on a new line, the model's own are ended."""

_KINDS = {
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "f32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
}
_TENSORS = {
    "attention_norm": "attn_norm",
    "query": "attn_q",
    "key": "attn_k",
    "value": "attn_v",
    "out": "attn_output",
    "feed_norm": "ffn_norm",
    "gate": "ffn_gate",
    "up": "ffn_up",
    "down": "ffn_down",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """What the file says about itself; the defaults are `mini`'s.

    `task` and `step_delimiter` are stored as `rlm.task` and `rlm.step.delimiter`: what kind of problem
    the model was trained on (None for a general one), and the text that ends one of its steps.
    `asks` are stored as `rlm.ask.*`: how a skill beside writing steps is asked for, see `skills`.
    `temperature` and `min_p` are the recommended decoding, stored under llama.cpp's own keys.
    """

    name: str = "rlm-agent mini"
    description: str = "Solves Countdown and Game of 24 puzzles step by step; trained from scratch."
    author: str = "the rlm-agent authors"
    license: str = "mit"
    task: str | None = "countdown"
    step_delimiter: str = "\n"
    temperature: float = 1.25
    min_p: float = 0.0003
    asks: Mapping[str, str] = field(default_factory=lambda: ASKS)


def export_gguf(
    model: Decoder,
    tokenizer: Tokenizer,
    path: Path,
    *,
    identity: Identity = Identity(),
    quantize: Quantization = "q8_0",
    head: HeadWeights | None = None,
) -> None:
    """Write `model` and `tokenizer` to `path`, which is replaced whole or not at all.

    Under `q8_0` a matrix whose rows are no multiple of 32 long is stored as `f16`; norms stay `f32`
    always, as does the value head. Raises `InputError` where the tokenizer or the head does not fit the
    model, or for another `quantize`.
    """
    if quantize not in _KINDS:
        raise UnknownNameError(f"{quantize!r} is no quantization; choose one of {', '.join(_KINDS)}")
    if tokenizer.get_vocab_size() != model.config.vocabulary:
        raise InputError(
            f"the tokenizer has {tokenizer.get_vocab_size()} tokens and the model "
            f"{model.config.vocabulary}; export the tokenizer that the model was trained with"
        )
    if head is not None:
        require_fitting(head, model.config.width)
    with gguf_writer(path, "llama") as writer:
        _add_identity(writer, identity)
        add_sizes(writer, model.config)
        _add_tokenizer(writer, tokenizer)
        if head is not None:
            add_head(writer, head)
        _add_tensors(writer, model, quantize)


def _add_identity(writer: gguf.GGUFWriter, identity: Identity) -> None:
    writer.add_name(identity.name)
    writer.add_description(identity.description)
    writer.add_author(identity.author)
    writer.add_license(identity.license)
    if identity.task is not None:
        writer.add_string("rlm.task", identity.task)
    writer.add_sampling_temp(identity.temperature)
    writer.add_sampling_min_p(identity.min_p)
    writer.add_string("rlm.step.delimiter", identity.step_delimiter)
    for name, ask in identity.asks.items():
        writer.add_string(f"rlm.ask.{name}", ask)
    writer.add_uint32("rlm.format", FORMAT)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    add_vocabulary(writer, tokens, merges, pad=PAD, bos=BOS, eos=EOS)
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)


def _add_tensors(writer: gguf.GGUFWriter, model: Decoder, quantize: Quantization) -> None:
    """All weights under llama.cpp's names.

    There is no `output.weight`: where it is missing, llama.cpp takes `token_embd.weight` in its place,
    as the decoder does.
    """
    wanted, file_type = _KINDS[quantize]
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    for name, parameter in model.state_dict().items():
        tensor = parameter.detach().to("cpu", torch.float32).numpy()
        kind = _kind(tensor, wanted)
        writer.add_tensor(tensor_name(name), quantized(tensor, kind), raw_dtype=kind)


def tensor_name(name: str) -> str:
    """What llama.cpp calls a weight of the decoder."""
    match name.split("."):
        case ["embedding", "weight"]:
            return "token_embd.weight"
        case ["norm", "weight"]:
            return "output_norm.weight"
        case ["blocks", block, part, "weight"]:
            return f"blk.{block}.{_TENSORS[part]}.weight"
    raise AssertionError(f"the decoder has a weight that GGUF has no name for: {name}")


def _kind(tensor: NDArray[np.float32], wanted: gguf.GGMLQuantizationType) -> gguf.GGMLQuantizationType:
    if tensor.ndim == 1:
        return gguf.GGMLQuantizationType.F32
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    return wanted if tensor.shape[-1] % block == 0 else gguf.GGMLQuantizationType.F16
