"""Going on from an exported model: the same weights, under another vocabulary."""

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from rlm_agent.structure.errors import InputError
from rlm_agent.training.decoder import Decoder, DecoderConfig
from rlm_agent.training.export import export_gguf
from rlm_agent.training.skills import Example
from rlm_agent.training.tokenizer import encode, train_tokenizer
from rlm_agent.training.warm import warm_start

SIZES = {"width": 32, "layers": 2, "heads": 2, "feed_forward": 64, "context": 64}


@pytest.fixture(scope="module")
def other(stream: list[Example]) -> Tokenizer:
    """A tokenizer of fewer and other texts, which lacks some tokens."""
    return train_tokenizer(example[0].text for example in stream[:200])


@pytest.fixture(scope="module")
def stored(other: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Decoder, Path]:
    torch.manual_seed(1)
    model = Decoder(DecoderConfig(vocabulary=other.get_vocab_size(), **SIZES))
    path = tmp_path_factory.mktemp("warm") / "model.gguf"
    export_gguf(model, other, path, quantize="f32")
    return model, path


def started(tokenizer: Tokenizer, path: Path, **sizes: int) -> Decoder:
    model = Decoder(DecoderConfig(vocabulary=tokenizer.get_vocab_size(), **{**SIZES, **sizes}))
    warm_start(model, tokenizer, path)
    return model


def test_equal_texts_have_equal_hidden_states_under_another_vocabulary(
    stored: tuple[Decoder, Path], other: Tokenizer, tokenizer: Tokenizer
) -> None:
    model, path = stored
    text = "4 9 10 13 : 24\n"
    before, after = encode(other, text), encode(tokenizer, text)
    assert before != after, "the vocabularies are not different"
    with torch.no_grad():
        hidden = started(tokenizer, path)(torch.tensor([after]))
        assert torch.allclose(model(torch.tensor([before])), hidden, atol=1e-5)


def test_a_new_token_begins_as_the_mean_of_its_parts(
    stored: tuple[Decoder, Path], other: Tokenizer, tokenizer: Tokenizer
) -> None:
    model, path = stored
    assert tokenizer.token_to_id("critique") is not None
    assert other.token_to_id("critique") is None
    parts = model.embedding.weight[encode(other, "critique")].mean(0)
    new = started(tokenizer, path).embedding.weight[tokenizer.token_to_id("critique")]
    assert torch.allclose(parts, new, atol=1e-6)


@pytest.mark.parametrize("sizes", [{"width": 64}, {"feed_forward": 96}])
def test_a_model_of_other_sizes_is_refused(
    stored: tuple[Decoder, Path], tokenizer: Tokenizer, sizes: dict[str, int]
) -> None:
    with pytest.raises(InputError, match="other sizes"):
        started(tokenizer, stored[1], **sizes)
