"""Tiny random models. Their weights are in single precision, where the slightest change of order shows."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn

from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.models.gguf.values.mlp import HeadWeights
from rlm_agent.training import export
from rlm_agent.training.decoder import Decoder, DecoderConfig
from rlm_agent.training.export import Identity, export_gguf
from rlm_agent.training.heads import weights_of
from rlm_agent.training.tokenizer import SPECIAL_TOKENS

GENERAL = Identity(name="tiny", description="Random weights.", task=None, temperature=1.0, min_p=0.0)
MakeModel = Callable[..., Path]
MakeDecoder = Callable[..., Decoder]
WIDTH = 64
"""Of the tiny models' hidden states."""


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """The tokenizer of all tiny models."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    text = "what is the answer of the question that nobody has asked before " + " ".join(map(str, range(100)))
    tokenizer.train_from_iterator([text] * 20, trainer)
    return tokenizer


@pytest.fixture(scope="session")
def make_decoder(tokenizer: Tokenizer) -> MakeDecoder:
    """The tiny model that `make_model` writes, in torch, with a context of so many tokens."""

    def make(*, context: int = 256) -> Decoder:
        sizes = {"width": WIDTH, "layers": 2, "heads": 2, "feed_forward": 96, "context": context}
        model = Decoder(DecoderConfig(vocabulary=tokenizer.get_vocab_size(), **sizes))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, weights in model.named_parameters():
                noise = torch.randn(weights.shape, generator=generator)
                scale = 0.3 if name.startswith("embedding") else 1.5 * weights.shape[-1] ** -0.5
                weights.copy_(1 + 0.3 * noise if weights.dim() == 1 else scale * noise)
        return model

    return make


@pytest.fixture(scope="session")
def make_model(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer, make_decoder: MakeDecoder
) -> MakeModel:
    """Writes a tiny random model, general unless it is given a task, with a context of so many tokens."""

    def make(*, context: int = 256, task: str | None = None, head: HeadWeights | None = None) -> Path:
        path = tmp_path_factory.mktemp("model") / "tiny.gguf"
        identity = replace(GENERAL, task=task)
        model = make_decoder(context=context)
        export_gguf(model, tokenizer, path, identity=identity, quantize="f32", head=head)
        return path

    return make


@pytest.fixture(scope="session")
def tiny(make_model: MakeModel) -> Path:
    """A tiny general model with a context of 256 tokens."""
    return make_model()


HERMES = """{{ bos_token }}{% if tools %}system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}Write <tool_call>{"name": ..., "arguments": ...}</tool_call>
{% endif %}
{%- for m in messages %}{{ m.role }}: {{ m.content }}
{%- for call in m.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}
{% endfor %}assistant: """


@pytest.fixture(scope="session")
def talker(make_model: MakeModel) -> Path:
    """A tiny general model whose template knows tools, with a context of 4096 tokens."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "CHAT_TEMPLATE", HERMES)
        return make_model(context=4096)


@pytest.fixture(scope="module")
def nets() -> list[nn.Sequential]:
    """Three value heads for the tiny models, in torch."""
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Linear(WIDTH, 16), nn.SiLU(), nn.Linear(16, 1)) for _ in range(3)]
    for weights in (parameter for net in nets for parameter in net.parameters()):
        nn.init.normal_(weights, std=0.3)  # as sure of themselves as trained ones
    return nets


@pytest.fixture(scope="module")
def weights(nets: list[nn.Sequential]) -> HeadWeights:
    """An ensemble of these three."""
    return weights_of([net.state_dict() for net in nets])


@pytest.fixture(scope="module")
def model(make_model: MakeModel, weights: HeadWeights) -> Path:
    """A tiny model with an ensemble of three in its file."""
    return make_model(head=weights)


@pytest.fixture(scope="module")
def policy(model: Path) -> Iterator[GGUFPolicy]:
    """This model, loaded."""
    policy = GGUFPolicy(model)
    yield policy
    policy.close()
