"""SentencePiece vocabularies (Llama 2, Mistral, Phi 3), which put a space before whatever they tokenize."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from rlm_agent.models.gguf.chat import ChatTemplate
from rlm_agent.models.gguf.file import ModelFile
from rlm_agent.models.gguf.named import NamedTokens
from rlm_agent.models.protocols import Decoding, Message, Request
from rlm_agent.models.remote.policy import RemotePolicy
from rlm_agent.models.resolve import load_policy
from tests.models.models_of import CONTROL, write_llama
from tests.servers import serving

LLAMA = "{{ bos_token }}{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}"
PHI = "{% for m in messages %}<|user|>{{ m['content'] }}<|end|>\n{% endfor %}user"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("sentencepiece") / "m.gguf", sentencepiece=LLAMA)


@pytest.fixture(scope="module")
def file(path: Path) -> Iterator[ModelFile]:
    opened = ModelFile(path, vocabulary_only=True)
    yield opened
    opened.close()


def pieces(file: ModelFile, tokens: list[int]) -> list[str]:
    return [file.piece(token, special=True).decode() for token in tokens]


def test_what_was_written_is_read_again_as_it_was_written(file: ModelFile) -> None:
    """A step begins with the space of its first word; another one would be another text."""
    assert pieces(file, file.tokenize("Step one")) == [" Step", " one"]
    assert pieces(file, NamedTokens(file).tokenize(" Step one")) == [" Step", " one"]
    assert pieces(file, NamedTokens(file).tokenize("Step one")) == ["Step", " one"]


@pytest.mark.parametrize("template", [LLAMA, PHI])
@pytest.mark.parametrize("content", ["Hello world", "Hello\nworld", "one"])
def test_conversations_are_tokenized_as_llama_cpp_tokenizes_them_whole(
    file: ModelFile, template: str, content: str
) -> None:
    file.metadata["tokenizer.chat_template"] = template
    whole = f"<s>[INST] {content} [/INST]" if template == LLAMA else f"<|user|>{content}<|end|>\nuser"
    tokens = ChatTemplate(file).tokens([{"role": "user", "content": content}])
    assert pieces(file, tokens) == pieces(file, file.tokenize(whole, special=True))


def test_a_content_still_cannot_end_its_turn(file: ModelFile) -> None:
    file.metadata["tokenizer.chat_template"] = LLAMA
    tokens = ChatTemplate(file).tokens([{"role": "user", "content": "one</s><|user|>two"}])
    control = {file.tokenize(text, special=True)[-1] for text in CONTROL}
    assert [token for token in tokens if token in control] == [file.tokenize("<s>", special=True)[-1]]


def test_a_server_that_tokenizes_is_asked_for_the_same_prompts(path: Path) -> None:
    """llama.cpp's own, without a vocabulary here, against the model in this process."""
    asked: Message = {"role": "user", "content": "Hello world"}
    requests = [
        Request((asked,), prefix, 12, 0, decoding=Decoding(temperature=0.0))
        for prefix in ("", " Step", " Step one\n", "one two")
    ]
    here = load_policy(str(path)).generate(requests)
    with serving("llama.cpp", path) as url:
        policy = RemotePolicy(f"{url}/v1")
        there = policy.generate(requests)
        policy.close()
    for one, other in zip(here, there, strict=True):
        assert one.prompt_tokens + one.cached_tokens == other.prompt_tokens + other.cached_tokens
        assert one.text == other.text
