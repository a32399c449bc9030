"""Values over llama.cpp in this process: a value head on a model's hidden state, or a label's probability.

Both look at what stands after a prompt and generate nothing. Where the judge is the policy itself, its cache
already holds the chain but for the last token, so that a score costs hardly more than that token.
"""

from pathlib import Path

from rlm_agent.models.gguf.engine.jobs import Tokens
from rlm_agent.models.gguf.file import ModelFile, binding
from rlm_agent.models.gguf.values.heads import ValueHead
from rlm_agent.models.gguf.values.labels import YES_NO, Labels
from rlm_agent.models.gguf.values.looking import LocalPolicy, Looking
from rlm_agent.models.gguf.values.readings import HeadReading, LabelReading
from rlm_agent.models.protocols import Candidate
from rlm_agent.structure.errors import ModelFileError


class StepEnds:
    """From a chain to the tokens behind which a value head reads, in training as in use: see `HeadValue`."""

    def __init__(self, policy: LocalPolicy) -> None:
        self._policy = policy
        self._delimiter = policy.file.metadata.get("rlm.step.delimiter", "\n")
        self._end = _end_token(policy.file)

    def __call__(self, candidate: Candidate) -> Tokens:
        """The conversation and the chain, up to what ends its last step."""
        ended = candidate.final and self._end is not None
        text = self._delimiter.join(candidate.steps)
        if candidate.steps and not ended:
            text += self._delimiter
        tokens = self._policy.prompt(candidate.messages, text)
        return (*tokens, self._end) if ended and self._end is not None else tokens


class HeadValue(Looking):
    """A value head, applied to the hidden state at the token that ends the last step.

    Each step is followed by the model's step delimiter, the last of a finished chain by the model's end token
    instead, as in its training texts. Without a `head`, it is the one in the policy's file or, where that has
    none, in the file of `head_file`. Raises `ModelFileError` where there is none, or one that does not fit.
    """

    def __init__(self, policy: LocalPolicy, head: ValueHead | None = None) -> None:
        self.head = fitting_head(policy.file, head)
        self._tokens = StepEnds(policy)
        super().__init__(policy, HeadReading(self.head), f"head={self.head.identity}")

    def _prompt(self, candidate: Candidate) -> Tokens:
        return self._tokens(candidate)


class LabelValue(Looking):
    """P(good) / (P(good) + P(bad)) of the labels' first tokens, as the judge's answer to a question.

    Raises `InputError` for labels that begin with the same token, or are empty.
    """

    def __init__(self, policy: LocalPolicy, labels: Labels = YES_NO) -> None:
        self.labels = labels
        reading = LabelReading.of(policy.file, labels.good, labels.bad)
        super().__init__(policy, reading, f"label={labels.identity}")

    def _prompt(self, candidate: Candidate) -> Tokens:
        return self.policy.prompt(self.labels.messages(candidate), "")


def head_file(path: Path) -> Path:
    """Where the head of a big model is looked for: `model.value.gguf` beside `model.gguf`."""
    return path.with_suffix(".value.gguf")


def own_head(file: ModelFile) -> ValueHead | None:
    """The head in a model's file or in the file beside it; None where neither has one."""
    head, beside = ValueHead.read(file.path), head_file(file.path)
    return ValueHead.read(beside) if head is None and beside.exists() else head


def fitting_head(file: ModelFile, head: ValueHead | None = None) -> ValueHead:
    """The head, or else the model's own; `ModelFileError` where there is none, or one that does not fit."""
    found = head or own_head(file)
    if found is None:
        raise ModelFileError(
            f"{file.path} has no value head; give a .gguf file that has one, or the value 'label'"
        )
    _require_fitting(found, file)
    return found


def _require_fitting(head: ValueHead, file: ModelFile) -> None:
    if head.model not in (None, file.identity):
        raise ModelFileError(
            f"the value head was made for another model than {file.path}; load that model, or train a "
            "head on this one"
        )
    if head.weights.width != file.width:
        raise ModelFileError(
            f"the value head reads {head.weights.width} numbers and the hidden states of {file.path} have "
            f"{file.width}; take the head that was trained on this model"
        )


def _end_token(file: ModelFile) -> int | None:
    """What ends an assistant's turn, or else a text; None where the model has neither."""
    lib = binding()
    tokens = (lib.llama_vocab_eot(file.vocabulary), lib.llama_vocab_eos(file.vocabulary))
    return next((int(token) for token in tokens if token >= 0), None)
