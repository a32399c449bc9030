"""A GGUF file, opened: its metadata and its vocabulary. Model files are not trusted."""

import ctypes
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from rlm_agent.models.gguf.complaints import start, why_not_loaded
from rlm_agent.models.gguf.header import check_metadata
from rlm_agent.structure.errors import MissingExtraError, ModelFileError

_MAGIC = b"GGUF"
_HASHED_BYTES = 1 << 20


def binding() -> ModuleType:
    """llama.cpp's low-level binding, imported late and silenced; `MissingExtraError` without it."""
    try:
        from llama_cpp import llama_cpp as lib
    except ImportError as error:
        raise MissingExtraError("llama-cpp-python", "local") from error
    start(lib)
    return lib


@dataclass(slots=True)
class ModelFile:
    """A loaded model: `handle` for llama.cpp, string metadata, and its vocabulary's calls.

    Weights that are `repacked` for the processor, where llama.cpp knows how, are faster, but the last rows of
    a batch, where their number is not a multiple of four, come out otherwise than the first.
    Raises `ModelFileError` where the file is missing, is not a GGUF, or cannot be loaded whole.
    """

    path: Path
    gpu_layers: int = 0
    vocabulary_only: bool = False
    repacked: bool = True
    metadata: dict[str, str] = field(default_factory=dict, init=False)
    handle: Any = field(default=None, init=False, repr=False)
    vocabulary: Any = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        _check_magic(self.path)
        check_metadata(self.path)
        lib = binding()
        params = lib.llama_model_default_params()
        params.n_gpu_layers = self.gpu_layers
        params.check_tensors = True
        params.vocab_only = self.vocabulary_only
        params.use_extra_bufts = self.repacked
        self.handle, reason = why_not_loaded(
            lambda: lib.llama_model_load_from_file(str(self.path).encode(), params)
        )
        if not self.handle:
            raise ModelFileError(f"{self.path} cannot be loaded: {reason}")
        self.vocabulary = lib.llama_model_get_vocab(self.handle)
        self.metadata = _read_metadata(lib, self.handle)

    def close(self) -> None:
        """Free the weights; every context over them must be closed before."""
        if self.handle:
            binding().llama_model_free(self.handle)
            self.handle = None

    @property
    def size(self) -> int:
        """The number of tokens in the vocabulary."""
        return int(binding().llama_vocab_n_tokens(self.vocabulary))

    @property
    def width(self) -> int:
        """The length of a hidden state."""
        return int(binding().llama_model_n_embd(self.handle))

    @property
    def trained_context(self) -> int:
        """The number of positions that the model was trained on."""
        return int(binding().llama_model_n_ctx_train(self.handle))

    def hyperparameter(self, name: str) -> str | None:
        """What the metadata say of the architecture under a name, such as `expert_count`; None if nothing."""
        return self.metadata.get(f"{self.metadata.get('general.architecture')}.{name}")

    @property
    def identity(self) -> str:
        """A fingerprint of the file: its length, first and last mebibyte, hashed."""
        length = self.path.stat().st_size
        with self.path.open("rb") as stream:
            digest = hashlib.sha256(str(length).encode() + stream.read(_HASHED_BYTES))
            stream.seek(max(0, length - _HASHED_BYTES))
            digest.update(stream.read())
        return digest.hexdigest()[:16]

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of `text`; only with `special` do texts such as `</s>` become control tokens."""
        raw = text.encode(errors="replace")  # half a surrogate pair has no bytes
        room = len(raw) + 2
        tokens = (ctypes.c_int32 * room)()
        lib = binding()
        count = lib.llama_tokenize(self.vocabulary, raw, len(raw), tokens, room, False, special)
        if count < 0:
            raise ModelFileError(f"{self.path} cannot tokenize {text[:40]!r}; its vocabulary is damaged")
        return list(tokens[:count])

    def continued(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids of a text that stands behind another one.

        SentencePiece vocabularies put a space before whatever they tokenize (llama.cpp, issue 3664); behind a
        newline, which is a token by itself there, they put none.
        """
        if self.metadata.get("tokenizer.ggml.model") != "llama":
            return self.tokenize(text, special=special)
        before = self.tokenize("\n")
        tokens = self.tokenize("\n" + text, special=special)
        same = tokens[: len(before)] == before
        return tokens[len(before) :] if same else self.tokenize(text, special=special)

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes that a token stands for; none for a control token, unless `special` spells it out."""
        lib = binding()
        buffer = ctypes.create_string_buffer(64)
        count = lib.llama_token_to_piece(self.vocabulary, token, buffer, len(buffer), 0, special)
        if count < 0:
            buffer = ctypes.create_string_buffer(-count)
            count = lib.llama_token_to_piece(self.vocabulary, token, buffer, len(buffer), 0, special)
        return buffer.raw[:count]

    def special(self, kind: str) -> str:
        """The text of the `bos` or `eos` token, empty where the model has none."""
        lib = binding()
        token = getattr(lib, f"llama_vocab_{kind}")(self.vocabulary)
        raw: bytes = b"" if token < 0 else lib.llama_vocab_get_text(self.vocabulary, token)
        return raw.decode(errors="replace")

    def ends(self, token: int) -> bool:
        """Whether a token ends the generation."""
        return bool(binding().llama_vocab_is_eog(self.vocabulary, token))


def _check_magic(path: Path) -> None:
    try:
        with path.open("rb") as stream:
            magic = stream.read(len(_MAGIC))
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise ModelFileError(f"{path} cannot be opened ({reason}); name an existing .gguf file") from error
    if magic != _MAGIC:
        raise ModelFileError(f"{path} is not a GGUF file; name a .gguf file that llama.cpp can load")


def _read_metadata(lib: ModuleType, handle: Any) -> dict[str, str]:
    """All metadata that llama.cpp can spell as a string; arrays are not among them."""

    def read(call: Any, key: Any) -> str:
        length = max(0, call(handle, key, None, 0))
        buffer = ctypes.create_string_buffer(length + 1)
        call(handle, key, buffer, length + 1)
        return buffer.value.decode(errors="replace")

    return {
        read(lib.llama_model_meta_key_by_index, index): read(lib.llama_model_meta_val_str_by_index, index)
        for index in range(lib.llama_model_meta_count(handle))
    }
