"""Which models branches can be grown with: those whose cache holds every position by itself."""

from rlm_agent.models.gguf.file import ModelFile, binding
from rlm_agent.structure.errors import ModelFileError

_STATEFUL = ("llama_model_is_recurrent", "llama_model_is_hybrid")
_NO_DECODER = ("llama_model_has_encoder", "llama_model_is_diffusion")


def require_branches(file: ModelFile) -> None:
    """`ModelFileError` for a model that does not write token by token, or whose past cannot be shared."""
    if _has_one_of(_STATEFUL, file):
        raise ModelFileError(
            f"{file.path} keeps a running state, from which no two branches of a search can go on; "
            "serve it with llama-server and name the model by its URL"
        )
    if file.hyperparameter("attention.causal") == "false" or _has_one_of(_NO_DECODER, file):
        raise ModelFileError(f"{file.path} does not write token by token; name a causal language model")


def _has_one_of(questions: tuple[str, ...], file: ModelFile) -> bool:
    lib = binding()
    return any(getattr(lib, question)(file.handle) for question in questions)
