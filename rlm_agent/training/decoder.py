"""A llama-architecture decoder in plain torch, laid out as llama.cpp's `llama` graph computes it.

Rotary pairs are interleaved (not split in halves, as in Hugging Face's weights), attention is plain
matmul, which on a CPU beats the fused kernel at lengths of a few dozen tokens, and the output matrix
is the embedding matrix.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from rlm_agent.models.gguf.writing import Sizes


@dataclass(frozen=True, slots=True)
class DecoderConfig(Sizes):
    """Sizes; the defaults make `mini` (2.3 M parameters with 2,048 tokens)."""

    vocabulary: int = 2048
    width: int = 160
    layers: int = 6
    heads: int = 5
    feed_forward: int = 448
    context: int = 256


class Decoder(nn.Module):
    """Token ids [batch, length] to hidden states [batch, length, width]; `logits` maps those on."""

    cosine: Tensor
    sine: Tensor

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.RMSNorm(config.width, eps=config.norm_eps)
        exponents = torch.arange(0, config.head_width, 2) / config.head_width
        angles = torch.arange(config.context)[:, None] / config.rope_base**exponents
        self.register_buffer("cosine", angles.cos(), persistent=False)
        self.register_buffer("sine", angles.sin(), persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                shrink = (2 * config.layers) ** -0.5 if name.endswith(("out.weight", "down.weight")) else 1
                nn.init.normal_(parameter, std=0.02 * shrink)

    def forward(self, tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        rotation = (self.cosine[:length], self.sine[:length])
        mask = torch.full((length, length), float("-inf")).triu(1)
        hidden: Tensor = self.embedding(tokens)
        for block in self.blocks:
            hidden = block(hidden, rotation, mask)
        normed: Tensor = self.norm(hidden)
        return normed

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., width] to [..., vocabulary], by the embedding matrix."""
        return functional.linear(hidden, self.embedding.weight)


class Block(nn.Module):
    """Attention and a gated feed-forward net, each behind its norm and beside a residual."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.heads, self.head_width = config.heads, config.head_width
        self.attention_norm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.feed_norm = nn.RMSNorm(config.width, eps=config.norm_eps)
        self.query, self.key, self.value, self.out = (
            nn.Linear(config.width, config.width, bias=False) for _ in range(4)
        )
        self.gate, self.up = (nn.Linear(config.width, config.feed_forward, bias=False) for _ in range(2))
        self.down = nn.Linear(config.feed_forward, config.width, bias=False)

    def forward(self, hidden: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        hidden = hidden + self._attend(self.attention_norm(hidden), rotation, mask)
        normed = self.feed_norm(hidden)
        fed: Tensor = self.down(functional.silu(self.gate(normed)) * self.up(normed))
        return hidden + fed

    def _attend(self, normed: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        batch, length, width = normed.shape
        query, key, value = (
            projection(normed).view(batch, length, self.heads, self.head_width).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        query, key = _rotate(query, rotation), _rotate(key, rotation)
        weights = (query @ key.transpose(-1, -2) * self.head_width**-0.5 + mask).softmax(-1)
        mixed = (weights @ value).transpose(1, 2).reshape(batch, length, width)
        attended: Tensor = self.out(mixed)
        return attended


def _rotate(vectors: Tensor, rotation: tuple[Tensor, Tensor]) -> Tensor:
    cosine, sine = rotation
    even, odd = vectors[..., 0::2], vectors[..., 1::2]
    return torch.stack((even * cosine - odd * sine, even * sine + odd * cosine), -1).flatten(-2)
