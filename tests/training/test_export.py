"""The exported GGUF, held against torch and against the training tokenizer by llama.cpp itself."""

import logging
import random
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import pytest
import torch
from llama_cpp.llama_chat_format import Jinja2ChatFormatter
from numpy.typing import NDArray
from tokenizers import Tokenizer

from rlm_agent.structure.errors import InputError
from rlm_agent.training.decoder import Decoder, DecoderConfig
from rlm_agent.training.export import CHAT_TEMPLATE, Identity, Quantization, export_gguf
from rlm_agent.training.tokenizer import BOS, EOS, SPECIAL_TOKENS, encode

PROMPT = "4 9 10 13 : 24\n"


@pytest.fixture(scope="module", autouse=True)
def _quiet() -> Iterator[None]:
    """llama-cpp-python prints llama.cpp's whole log unless its logger has a level."""
    logger = logging.getLogger("llama-cpp-python")
    level = logger.level
    logger.setLevel(logging.ERROR)
    llama_cpp.llama_backend_init()
    yield
    logger.setLevel(level)


@contextmanager
def _opened(path: Path, *, vocab_only: bool = False) -> Iterator[llama_cpp.llama_model_p]:
    params = llama_cpp.llama_model_default_params()
    params.vocab_only = vocab_only
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    assert model is not None, f"llama.cpp does not load {path}"
    yield model
    llama_cpp.llama_model_free(model)


def _llama_logits(path: Path, ids: list[int]) -> NDArray[np.float32]:
    """Logits at every position, by the plain kernels and with a cache in single precision."""
    with _opened(path) as model:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = params.n_batch = len(ids)
        params.n_threads = params.n_threads_batch = 1
        params.flash_attn_type = 0
        params.type_k = params.type_v = int(gguf.GGMLQuantizationType.F32)
        context = llama_cpp.llama_init_from_model(model, params)
        assert context is not None
        _decode(context, ids)
        size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits(context), shape=(len(ids), size)).copy()
        llama_cpp.llama_free(context)
    return logits


def _decode(context: llama_cpp.llama_context_p, ids: list[int]) -> None:
    batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
    batch.n_tokens = len(ids)
    for position, token in enumerate(ids):
        batch.token[position], batch.pos[position] = token, position
        batch.n_seq_id[position], batch.seq_id[position][0] = 1, 0
        batch.logits[position] = True
    assert llama_cpp.llama_decode(context, batch) == 0
    llama_cpp.llama_batch_free(batch)


def _torch_logits(model: Decoder, ids: list[int]) -> NDArray[np.float32]:
    with torch.no_grad():
        logits: NDArray[np.float32] = model.logits(model(torch.tensor([ids])))[0].numpy()
    return logits


def _llama_tokens(model: llama_cpp.llama_model_p, text: str, *, special: bool = False) -> list[int]:
    data = text.encode()
    room = len(data) + 2
    ids = (llama_cpp.llama_token * room)()
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    count = llama_cpp.llama_tokenize(vocabulary, data, len(data), ids, room, False, special)
    assert count >= 0
    return list(ids[:count])


def _random_decoder(config: DecoderConfig) -> Decoder:
    """Weights large enough that every matrix and every norm matters for the argmax."""
    generator = torch.Generator().manual_seed(0)
    model = Decoder(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() == 1:
                parameter.copy_(1 + 0.3 * noise)
            else:
                scale = 1.0 if name.startswith("embedding") else 1.5 * parameter.shape[1] ** -0.5
                parameter.copy_(scale * noise)
    return model


@pytest.fixture(scope="module")
def decoder(tokenizer: Tokenizer) -> Decoder:
    sizes = {"width": 64, "layers": 2, "heads": 2, "feed_forward": 96, "context": 64}
    return _random_decoder(DecoderConfig(vocabulary=tokenizer.get_vocab_size(), **sizes))


@pytest.fixture(scope="module")
def ids(decoder: Decoder) -> list[int]:
    rng = random.Random(0)
    return [1, *(rng.randrange(decoder.config.vocabulary) for _ in range(decoder.config.context - 1))]


@pytest.fixture(scope="module")
def exported(decoder: Decoder, tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "tiny.gguf"
    export_gguf(decoder, tokenizer, path, quantize="f32")
    return path


def test_llama_cpp_computes_what_torch_computes(decoder: Decoder, exported: Path, ids: list[int]) -> None:
    theirs, ours = _llama_logits(exported, ids), _torch_logits(decoder, ids)
    assert np.abs(theirs - ours).max() < 1e-3
    assert (theirs.argmax(-1) == ours.argmax(-1)).all()


@pytest.mark.parametrize(("quantize", "error", "agreeing"), [("f16", 0.004, 0.98), ("q8_0", 0.06, 0.85)])
def test_quantized_logits_stay_close(
    decoder: Decoder,
    tokenizer: Tokenizer,
    ids: list[int],
    tmp_path: Path,
    quantize: Quantization,
    error: float,
    agreeing: float,
) -> None:
    """Measured on four inputs: f16 .0017 of the logits' spread and all argmaxes, q8_0 .045 and .89 of all."""
    export_gguf(decoder, tokenizer, tmp_path / "tiny.gguf", quantize=quantize)
    theirs, ours = _llama_logits(tmp_path / "tiny.gguf", ids), _torch_logits(decoder, ids)
    assert (theirs - ours).std() < error * ours.std()
    assert (theirs.argmax(-1) == ours.argmax(-1)).mean() > agreeing


def test_rows_that_q8_0_cannot_hold_are_stored_as_f16(tokenizer: Tokenizer, tmp_path: Path) -> None:
    sizes = {"width": 48, "layers": 1, "heads": 2, "feed_forward": 64, "context": 32}
    odd = _random_decoder(DecoderConfig(vocabulary=tokenizer.get_vocab_size(), **sizes))
    path = tmp_path / "odd.gguf"
    export_gguf(odd, tokenizer, path)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors}
    assert kinds["blk.0.ffn_down.weight"] == "Q8_0"
    assert kinds["blk.0.ffn_up.weight"] == kinds["token_embd.weight"] == "F16"
    ids = list(range(1, 33))
    assert (_llama_logits(path, ids) - _torch_logits(odd, ids)).std() < 0.06 * _torch_logits(odd, ids).std()


def test_matrices_are_quantized_and_norms_are_not(
    decoder: Decoder, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "tiny.gguf"
    export_gguf(decoder, tokenizer, path)
    reader = gguf.GGUFReader(path)
    for tensor in reader.tensors:
        assert tensor.tensor_type.name == ("F32" if len(tensor.shape) == 1 else "Q8_0"), tensor.name
    assert "output.weight" not in {tensor.name for tensor in reader.tensors}
    assert _value(reader, "general.file_type") == gguf.LlamaFileType.MOSTLY_Q8_0


def _value(reader: gguf.GGUFReader, key: str) -> object:
    field = reader.get_field(key)
    assert field is not None, key
    return field.contents()


def test_the_file_says_what_it_is(exported: Path, decoder: Decoder) -> None:
    expected = {
        "general.architecture": "llama",
        "general.name": "rlm-agent mini",
        "general.author": "the rlm-agent authors",
        "general.license": "mit",
        "general.file_type": 0,
        "llama.context_length": decoder.config.context,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        "rlm.task": "countdown",
        "rlm.step.delimiter": "\n",
        "rlm.format": 1,
        "rlm.ask.critique": "critique",
        "rlm.ask.rewrite": "rewrite",
        "rlm.ask.prefer": "{question}\n{choices}\nprefer",
        "rlm.ask.coat": "{question}\ncoat",
    }
    reader = gguf.GGUFReader(exported)
    assert {key: _value(reader, key) for key in expected} == expected


def test_another_identity_is_written_in_its_place(
    decoder: Decoder, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    identity = Identity(name="other", task="arithmetic", step_delimiter="\n\n", asks={"think": "{question}"})
    export_gguf(decoder, tokenizer, tmp_path / "other.gguf", identity=identity)
    reader = gguf.GGUFReader(tmp_path / "other.gguf")
    keys = ("general.name", "rlm.task", "rlm.step.delimiter")
    assert [_value(reader, key) for key in keys] == ["other", "arithmetic", "\n\n"]
    asks = {key: _value(reader, key) for key in reader.fields if key.startswith("rlm.ask.")}
    assert asks == {"rlm.ask.think": "{question}"}


def test_only_the_end_of_answer_ends_generation(exported: Path, decoder: Decoder) -> None:
    with _opened(exported, vocab_only=True) as model:
        vocabulary = llama_cpp.llama_model_get_vocab(model)
        ends = [
            token
            for token in range(decoder.config.vocabulary)
            if llama_cpp.llama_vocab_is_eog(vocabulary, token)
        ]
    assert ends == [2]


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        ([("user", "4 9 10 13 : 24")], "4 9 10 13 : 24\n"),
        ([("system", "Be brief."), ("user", "5 6 : 30")], "5 6 : 30\n"),
        ([("user", "5 6 : 30"), ("assistant", "6 * 5 = 31")], "5 6 : 30\n6 * 5 = 31</s>\n"),
        (
            [("user", "5 6 : 30"), ("assistant", "6 * 5 = 31"), ("user", "critique")],
            "5 6 : 30\n6 * 5 = 31</s>\ncritique\n",
        ),
    ],
)
def test_the_chat_template_gives_the_prompt_of_training(
    exported: Path, tokenizer: Tokenizer, messages: Any, text: str
) -> None:
    template = _value(gguf.GGUFReader(exported), "tokenizer.chat_template")
    assert template == CHAT_TEMPLATE
    formatter = Jinja2ChatFormatter(template=CHAT_TEMPLATE, eos_token="</s>", bos_token="<s>")
    rendered = formatter(messages=[{"role": role, "content": content} for role, content in messages]).prompt
    assert rendered == BOS + text
    with _opened(exported, vocab_only=True) as model:
        turns = [encode(tokenizer, turn) for turn in text.split(EOS)]
        expected = [1, *turns[0], *(token for turn in turns[1:] for token in (2, *turn))]
        assert _llama_tokens(model, rendered, special=True) == expected


def test_llama_cpp_and_the_training_tokenizer_agree_on_any_text(exported: Path, tokenizer: Tokenizer) -> None:
    texts = _random_texts(10_000)
    with _opened(exported, vocab_only=True) as model:
        for text in [*texts, PROMPT, *(f" {number}" for number in range(500))]:
            assert _llama_tokens(model, text) == encode(tokenizer, text), repr(text)


def _random_texts(count: int) -> list[str]:
    """Up to two dozen pieces each, drawn from pools that each stress another part of the splitting rule."""
    unicode = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    kinds = {char: unicodedata.category(char) for char in unicode[:0x20000]}
    pools = [
        list(" \t\n\r\v\f\x1c\x1f\x85\xa0\u180e\u2003\u200b\u2028\u202f\u3000\ufeff"),
        list("abcXYZst012349+-*/=|()'<>.,:_"),
        ["'s", "'ll", "13 - 9 = 4 | 4 4 10", "4 9 10 13 : 24", " apples", " 400", "401", "1/3", "  ", "24\n"],
        list(SPECIAL_TOKENS),
        [char for char, kind in kinds.items() if kind[0] == "M"],
        [char for char, kind in kinds.items() if kind[0] == "N"],
        [char for char, kind in kinds.items() if kind == "Cc"],
        [chr(code) for code in range(0x1F300, 0x1FB00)] + ["\u200d", "\ufe0f"],
        [char for char, kind in kinds.items() if kind not in ("Cn", "Co")],
        unicode,
    ]
    rng = random.Random(0)
    return ["".join(rng.choice(rng.choice(pools)) for _ in range(rng.randint(0, 24))) for _ in range(count)]


def test_a_failed_export_leaves_the_old_file_and_nothing_else(
    decoder: Decoder, tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tiny.gguf"
    path.write_bytes(b"old")

    def full_disk(writer: gguf.GGUFWriter) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        export_gguf(decoder, tokenizer, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_model_gives_the_same_bytes(
    decoder: Decoder, tokenizer: Tokenizer, exported: Path, tmp_path: Path
) -> None:
    again = tmp_path / "new folder" / "again.gguf"
    export_gguf(decoder, tokenizer, again, quantize="f32")
    assert again.read_bytes() == exported.read_bytes()
    assert list(again.parent.iterdir()) == [again]


def test_a_tokenizer_of_another_model_is_refused(
    decoder: Decoder, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    other = Decoder(replace(decoder.config, vocabulary=decoder.config.vocabulary + 1))
    with pytest.raises(InputError, match="export the tokenizer that the model was trained with"):
        export_gguf(other, tokenizer, tmp_path / "tiny.gguf")
    assert not list(tmp_path.iterdir())


def test_an_unknown_quantization_is_refused(decoder: Decoder, tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="q8_0, f16, f32"):
        export_gguf(decoder, tokenizer, tmp_path / "tiny.gguf", quantize="q4_0")  # type: ignore[arg-type]
