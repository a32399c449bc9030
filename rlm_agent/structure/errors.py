"""Every error that the package raises on purpose, drawn as a tree.

    RlmError
    ├── InputError            what the caller asked for cannot be done
    │   ├── UnknownNameError      no strategy, task, model or parameter of that name
    │   ├── ProblemError          the question is not a problem of the task, or has no solution
    │   ├── BudgetError           a budget that allows nothing, or is not a number
    │   ├── PromptTooLongError    the prompt does not fit the model's context
    │   ├── GrammarError          a grammar, or a schema for one, that cannot be used
    │   ├── EditError             edits of a graph of thoughts that cannot be done
    │   └── DocumentError         a document that cannot be read
    ├── ModelError            a model cannot be loaded or cannot go on
    │   ├── ModelFileError        the file is missing, truncated or not a GGUF
    │   ├── DecodeError           llama.cpp refused a batch
    │   └── ServerError           a model's server cannot be reached, or answers what is of no use
    │       ├── AccessError           it refuses the key, or there is no such model for it
    │       └── UnansweredError       it gave no usable answer in the tries and the time that it had
    ├── IndexFileError        an index of documents is damaged, foreign or of another version
    │   └── IndexMismatchError    an index was made with another embedding model
    ├── MissingExtraError     an optional dependency is not installed
    ├── CheckpointError       a stored search belongs to another model, strategy or version, or is damaged
    └── BusyError             the thread of a conversation is busy with another run

Each message is one sentence that says what is wrong and what to do.
"""

from collections.abc import Sequence


class RlmError(Exception):
    """Base of all errors of this package."""


class InputError(RlmError, ValueError):
    """What the caller asked for cannot be done."""


class UnknownNameError(InputError):
    """No strategy, task, model or parameter of that name."""


class ProblemError(InputError):
    """The question is not a problem of the task, or has no solution."""


class BudgetError(InputError):
    """A budget that allows nothing, or is not a number."""


class PromptTooLongError(InputError):
    """The prompt does not fit the model's context."""


class GrammarError(InputError):
    """A grammar, or a schema for one, that cannot be used."""


class EditError(InputError):
    """Edits of a graph of thoughts that cannot be done; `refused` says why, a sentence for each."""

    def __init__(self, refused: Sequence[str]) -> None:
        super().__init__(f"nothing was edited: {'; '.join(refused)}")
        self.refused = list(refused)


class DocumentError(InputError):
    """A document that cannot be read."""


class ModelError(RlmError):
    """A model cannot be loaded or cannot go on."""


class ModelFileError(ModelError):
    """The file is missing, truncated or not a GGUF."""


class DecodeError(ModelError):
    """llama.cpp refused a batch."""


class ServerError(ModelError):
    """A model's server cannot be reached, or answers what is of no use."""


class AccessError(ServerError):
    """A model's server refuses the key, or has no such model for it."""


class UnansweredError(ServerError):
    """A model's server gave no usable answer in the tries and the time that it had."""


class IndexFileError(RlmError):
    """An index of documents is damaged, foreign or of another version."""


class IndexMismatchError(IndexFileError):
    """An index was made with another embedding model."""


class MissingExtraError(RlmError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        """`package` is what failed to import, `extra` the extra of rlm-agent that brings it."""
        super().__init__(f"{package} is not installed; install it with: pip install 'rlm-agent[{extra}]'")


class CheckpointError(RlmError):
    """A stored search belongs to another model, strategy or version, or was edited so that it is damaged."""


class BusyError(RlmError):
    """The thread of a conversation is busy with another run."""
