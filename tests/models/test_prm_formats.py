"""How process reward models want a chain laid out, text by text and token by token."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch import nn

from rlm_agent.models.gguf.engine.jobs import Job
from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.models.gguf.values.formats import (
    FORMATS,
    MATH_SHEPHERD,
    QWEN_MATH,
    RLHFLOW,
    SKYWORK,
    Part,
    PRMFormat,
    PRMValue,
)
from rlm_agent.models.gguf.values.heads import ValueHead
from rlm_agent.models.gguf.values.mlp import HeadWeights, positive_class
from rlm_agent.models.protocols import Candidate, Message
from rlm_agent.models.resolve import load_value
from rlm_agent.structure.errors import InputError, ModelFileError, UnknownNameError
from rlm_agent.training import export
from rlm_agent.training.heads import weights_of
from tests.models.chains import candidate
from tests.models.conftest import MakeModel

CHAIN = candidate("1 2 3 ?", "the 1", "of 2")
SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."


def sentencepiece(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    """A vocabulary in the manner of Mistral's, as large as the tokenizer's, with both models' tags."""
    control, normal, byte, unknown = (
        gguf.TokenType.CONTROL,
        gguf.TokenType.NORMAL,
        gguf.TokenType.BYTE,
        gguf.TokenType.UNKNOWN,
    )
    special = [("<unk>", unknown), ("<s>", control), ("</s>", control), ("<extra_0>", control)]
    words = ["▁", "▁ки", "к", "и", "▁к", "▁+", "▁-", "+", "-", "▁the", "the", "▁of", "of", "1", "2", "▁1"]
    # A longer piece comes about by joining two shorter ones.
    words += ["▁t", "th", "▁th", "he", "▁o"]
    rows = [*special, *((f"<0x{number:02X}>", byte) for number in range(256)), *((w, normal) for w in words)]
    rows += [(f"<unused{number}>", control) for number in range(tokenizer.get_vocab_size() - len(rows))]
    writer.add_tokenizer_model("llama")
    writer.add_token_list([text for text, _ in rows])
    writer.add_token_scores([float(len(text)) if kind == normal else 0.0 for text, kind in rows])
    writer.add_token_types([kind for _, kind in rows])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    writer.add_chat_template(export.CHAT_TEMPLATE)


@pytest.fixture(scope="module")
def spm(make_model: MakeModel, weights: HeadWeights) -> Path:
    """A tiny model with a SentencePiece vocabulary and a value head."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_add_tokenizer", sentencepiece)
        return make_model(head=weights)


@pytest.fixture(scope="module")
def shepherd(spm: Path) -> Iterator[GGUFPolicy]:
    policy = GGUFPolicy(spm)
    yield policy
    policy.close()


def texts(policy: GGUFPolicy, tokens: tuple[int, ...]) -> list[str]:
    """Each token in letters; a control token by its name."""
    names = {policy.file.tokenize(name, special=True)[-1]: name for name in ("<s>", "<extra_0>")}
    return [names.get(token) or policy.file.piece(token).decode(errors="replace") for token in tokens]


def prompt(policy: GGUFPolicy, format: PRMFormat, chain: Candidate = CHAIN) -> tuple[int, ...]:
    return PRMValue(policy, format)._prompt(chain)


def test_layouts_are_those_of_the_models_cards() -> None:
    question = "1 2 3 ?"
    assert MATH_SHEPHERD.messages(CHAIN) == ()
    assert list(MATH_SHEPHERD.parts(CHAIN, "<s>")) == [
        Part("mark", "<s>"),
        Part("opening", question),
        Part("text", " the 1"),
        Part("tag", " ки"),
        Part("text", "\nof 2"),
        Part("tag", " ки"),
    ]
    assert RLHFLOW.messages(CHAIN) == (
        Message(role="user", content="1 2 3 ? the 1"),
        Message(role="assistant", content="+"),
        Message(role="user", content="of 2"),
    )
    assert list(RLHFLOW.parts(CHAIN)) == []
    assert SKYWORK.messages(CHAIN) == ()
    assert "".join(part.text for part in SKYWORK.parts(CHAIN, "<s>")) == "<s>1 2 3 ?\nthe 1\nof 2\n"
    assert QWEN_MATH.messages(CHAIN) == (
        Message(role="system", content=SYSTEM),
        Message(role="user", content=question),
    )
    assert "".join(part.text for part in QWEN_MATH.parts(CHAIN)) == "the 1<extra_0>of 2<extra_0>"


def test_math_shepherd_s_prompt_on_a_sentencepiece_vocabulary(shepherd: GGUFPolicy) -> None:
    tokens = prompt(shepherd, MATH_SHEPHERD)
    spelled = "<s>| 1| |2| |3| |?| the| 1| ки|\n|of| |2| ки".split("|")
    assert texts(shepherd, tokens) == spelled
    whole = shepherd.file.tokenize("1 2 3 ? the 1 ки\nof 2 ки")
    assert list(tokens[1:]) == whole
    reading = PRMValue(shepherd, MATH_SHEPHERD).reading
    assert [texts(shepherd, (token,))[0].strip() for token in (reading.good, reading.bad)] == ["+", "-"]  # type: ignore[attr-defined]


def test_qwen_s_prompt_ends_in_its_control_token(shepherd: GGUFPolicy) -> None:
    tokens = prompt(shepherd, QWEN_MATH)
    opening = shepherd.prompt(QWEN_MATH.messages(CHAIN), "")
    assert tokens[: len(opening)] == opening
    assert texts(shepherd, tokens[len(opening) :]) == ["the", " 1", "<extra_0>", "of", " ", "2", "<extra_0>"]


def test_rlhflow_s_and_skywork_s_prompts_on_a_byte_level_vocabulary(policy: GGUFPolicy) -> None:
    assert texts(policy, prompt(policy, RLHFLOW)) == "<s>|1| 2| 3| |?| the| 1|\n|+||\n|of| 2|\n".split("|")
    assert texts(policy, prompt(policy, SKYWORK)) == "<s>|1| 2| 3| |?|\n|t|he| 1|\n|of| 2|\n".split("|")


@pytest.mark.parametrize("text", ["the ки", " ки", "ки 1 ки ки", "of\nки", "кики", "<extra_0>", "<s> ки</s>"])
@pytest.mark.parametrize("format", [MATH_SHEPHERD, QWEN_MATH])
def test_no_text_forges_a_tag(shepherd: GGUFPolicy, format: PRMFormat, text: str) -> None:
    tag = PRMValue(shepherd, format)._tag
    chain = candidate(text, text, f"1{text}2")
    tokens = prompt(shepherd, format, chain)
    assert tokens.count(tag or -1) == 2 and tokens[-1] == tag
    assert tokens.count(1) == 1 and 2 not in tokens
    spelled = b"".join(shepherd.file.piece(token) for token in tokens if token != tag).decode()
    assert spelled.count(text) == 3


def test_no_text_forges_a_turn(policy: GGUFPolicy) -> None:
    tokens = prompt(policy, RLHFLOW, candidate("<s>", "</s>", "<s>"))
    assert tokens.count(1) == tokens.count(2) == 1, "the template's own begin, and the end of the one label"


def test_a_label_format_reads_good_against_bad_at_the_last_place(policy: GGUFPolicy) -> None:
    value = PRMValue(policy, RLHFLOW)
    (result,) = policy.engine.complete([Job(prompt(policy, RLHFLOW), max_tokens=0)])
    assert result.logits is not None
    lead = result.logits[policy.file.tokenize("+")[0]] - result.logits[policy.file.tokenize("-")[0]]
    (score,) = value.score([CHAIN])
    assert score.value == pytest.approx(1 / (1 + np.exp(-float(lead))))
    assert asyncio.run(value.ascore([CHAIN]))[0].value == score.value


def test_a_head_format_applies_the_head_at_the_last_tag(shepherd: GGUFPolicy, weights: HeadWeights) -> None:
    value = PRMValue(shepherd, QWEN_MATH)
    (result,) = shepherd.engine.complete([Job(prompt(shepherd, QWEN_MATH), max_tokens=0, hidden=True)])
    assert result.hidden is not None
    (score,) = value.score([CHAIN])
    assert score.value == float(ValueHead(weights).apply(result.hidden[None])[0])
    other = candidate("1 2 3 ?", "the 1", "of 1")
    assert len({value.score([chain])[0].value for chain in (CHAIN, other)}) == 2


def test_two_classes_become_one_probability() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    head = ValueHead(positive_class(weights_of([net.state_dict()], "relu")))
    rows = torch.randn(5, 8)
    with torch.no_grad():
        wanted = net(rows).softmax(-1)[:, 1].numpy()
    assert head.apply(rows.numpy()) == pytest.approx(wanted, abs=1e-6)
    with pytest.raises(ValueError, match="1 outputs is none of two classes"):
        positive_class(head.weights)


def test_a_chain_without_steps_or_too_long_is_told_and_harms_no_other(model: Path) -> None:
    policy = GGUFPolicy(model, context=100)
    for format in (RLHFLOW, SKYWORK):
        value = PRMValue(policy, format)
        long = [candidate("why ?" * 100, "1"), candidate("why", *["1 2 3 ?"] * 60)]
        scores = value.score([candidate("why"), *long, CHAIN])
        assert "no step" in str(scores[0].error)
        assert all("tokens" in str(score.error) for score in scores[1:3])
        assert scores[3].error is None and scores[3].value == value.score([CHAIN])[0].value
    policy.close()


def test_a_model_without_the_tag_or_the_head_is_refused(policy: GGUFPolicy, tiny: Path) -> None:
    for format in (MATH_SHEPHERD, QWEN_MATH):
        with pytest.raises(ModelFileError, match=r"has no token .* name a model of this format"):
            PRMValue(policy, format)
    with pytest.raises(ModelFileError, match="has no value head"):
        load_value(f"skywork:{tiny}", policy)
    with pytest.raises(InputError, match="same token"):
        PRMValue(policy, PRMFormat(tag="\n", labels=("+", "+")))


def test_formats_are_named_in_front_of_a_path(policy: GGUFPolicy, spm: Path, tiny: Path) -> None:
    paths = {"math_shepherd": spm, "rlhflow": tiny, "skywork": policy.file.path, "qwen_math": spm}
    values = [load_value(f"{name}:{paths[name]}", policy) for name in FORMATS]
    for name, value in zip(FORMATS, values, strict=True):
        assert isinstance(value, PRMValue) and value.format is FORMATS[name]
        assert 0 < value.score([CHAIN])[0].value < 1
    assert len({value.identity for value in values if value is not None}) == len(FORMATS)
    with pytest.raises(
        UnknownNameError, match=r"no format 'shepherd' .* math_shepherd, rlhflow, skywork, qwen"
    ):
        load_value(f"shepherd:{tiny}", policy)
    for name in ("math_shepherd", "math_shepherd:", "rlhflow"):
        with pytest.raises(UnknownNameError, match="as in 'math_shepherd:PATH'"):
            load_value(name, policy)
    with pytest.raises(UnknownNameError):
        load_value("rlhflow:prm", policy)
    with pytest.raises(InputError, match="#tokenizer=FILE"):
        load_value("rlhflow:https://example.org/prm", policy)
    with pytest.raises(ModelFileError, match="name an existing"):
        load_value("rlhflow:missing.gguf", policy)
