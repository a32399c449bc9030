"""Models of sentence-transformers in this process."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from rlm_agent.retrieval.extras import needed
from rlm_agent.structure.errors import ModelError


class LocalModel:
    """A model of one `kind`, a class of sentence-transformers, which one thread uses at a time.

    `model` is a folder or the name of a model. Nothing is downloaded unless `download` allows it, code that
    comes with a model is never run, and weights are read as safetensors alone. Raises `ModelError` where the
    model cannot be loaded, `MissingExtraError` without sentence-transformers.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        model: str | Path,
        *,
        batch_size: int = 32,
        device: str | None = None,
        download: bool = False,
    ) -> None:
        self._batch_size = batch_size
        # Tokenizers must not be used by two threads at once.
        self._lock = threading.Lock()
        kind = getattr(needed("sentence_transformers"), self.kind)
        self._model = _load_quietly(kind, model, device, download)

    def _hash(self, told: object = None) -> str:
        """16 hexadecimal digits that follow from the weights and from what else is told of the model."""
        digest = hashlib.sha256(repr(told).encode())
        for name, tensor in sorted(self._model.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


def _load_quietly(kind: Any, model: str | Path, device: str | None, download: bool) -> Any:
    """A model of a class of sentence-transformers, without progress bars; `ModelError` where it fails."""
    try:
        with _no_bars():
            return kind(
                str(model),
                device=device,
                local_files_only=not download,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        (reason, *_) = str(error).splitlines() or [""]
        raise ModelError(
            f"the embedding model {model} cannot be loaded ({reason[:200]}); "
            "name a folder that holds one, or allow its download"
        ) from error


@contextmanager
def _no_bars() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
