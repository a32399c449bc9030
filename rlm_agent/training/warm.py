"""Going on from a model that was exported: its weights, for another vocabulary and other skills."""

from pathlib import Path

import gguf
import torch
from gguf.quants import dequantize
from tokenizers import Tokenizer, models
from torch import Tensor

from rlm_agent.structure.errors import InputError
from rlm_agent.training.decoder import Decoder
from rlm_agent.training.export import tensor_name

_EMBEDDING = "embedding.weight"


def warm_start(model: Decoder, tokenizer: Tokenizer, path: Path) -> None:
    """Load into `model` the weights of a file of `export_gguf`, whose sizes must be the same.

    Tokens are matched by their texts; one that the file does not have begins as the mean of those that it
    would have been cut into. Raises `InputError` where the matrices are of other sizes.
    """
    reader = gguf.GGUFReader(path)
    stored = {
        tensor.name: torch.from_numpy(dequantize(tensor.data, tensor.tensor_type).copy())
        for tensor in reader.tensors
    }
    wanted = model.state_dict()
    loaded = {name: stored[tensor_name(name)] for name in wanted}
    loaded[_EMBEDDING] = _embedding(loaded[_EMBEDDING], reader, tokenizer)
    for name, tensor in loaded.items():
        if tensor.shape != wanted[name].shape:
            raise InputError(f"{path} has other sizes than the decoder to be trained; name another model")
    model.load_state_dict(loaded)


def _embedding(known: Tensor, reader: gguf.GGUFReader, tokenizer: Tokenizer) -> Tensor:
    """[tokens, width] for the vocabulary of `tokenizer`, from that of the file."""
    tokens: list[str] = reader.fields["tokenizer.ggml.tokens"].contents()
    merges: list[str] = reader.fields["tokenizer.ggml.merges"].contents()
    ids = {token: number for number, token in enumerate(tokens)}
    cutter = models.BPE(vocab=ids, merges=[(left, right) for left, right in map(str.split, merges)])
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    rows = [
        known[[ids[token]] if token in ids else [piece.id for piece in cutter.tokenize(token)]].mean(0)
        for token in sorted(vocabulary, key=vocabulary.__getitem__)
    ]
    return torch.stack(rows)
