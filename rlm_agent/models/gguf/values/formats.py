"""Process reward models that others have trained: how each wants a chain laid out, and where it is read.

The score of a chain is that of its last step: a search has scored the steps before it when they were added,
and aggregates as it likes.

The model's marks become control tokens; the texts of question and steps never do, and none of them can hold
the token that the model is read at (but for a newline, see `SKYWORK`).
"""

import hashlib
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import Literal

from rlm_agent.models.gguf.engine.jobs import Tokens
from rlm_agent.models.gguf.file import ModelFile
from rlm_agent.models.gguf.values.heads import ValueHead
from rlm_agent.models.gguf.values.looking import LocalPolicy, Looking
from rlm_agent.models.gguf.values.readings import HeadReading, LabelReading
from rlm_agent.models.gguf.values.values import fitting_head
from rlm_agent.models.patterns import question_of
from rlm_agent.models.protocols import Candidate, Message
from rlm_agent.structure.errors import InputError, ModelFileError


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of a prompt: a `mark` or `tag` of the model's own, or a text, which opens or continues it."""

    kind: Literal["mark", "tag", "opening", "text"]
    text: str


@dataclass(frozen=True, slots=True)
class PRMFormat:
    """The layout of a process reward model's prompt.

    `tag` is the one token that ends each step; the model is read at the last one. Without a `tag` each step
    is a user's turn and the assistant replies the good label to it, to the last one as well, and the model is
    read where that reply would begin. `labels` are the good and the bad one; without them a value head is
    read. With `chat` the question goes through the model's chat template, behind the `system` prompt;
    without, it opens the text, with `closing` behind it. `first` stands before the first step, `between`
    before each later one; both are tokenized with it.
    """

    tag: str | None = None
    labels: tuple[str, str] | None = ("+", "-")
    chat: bool = False
    system: str = ""
    closing: str = ""
    first: str = ""
    between: str = ""

    @property
    def identity(self) -> str:
        """A fingerprint of the layout."""
        return hashlib.sha256(repr(astuple(self)).encode()).hexdigest()[:16]

    def messages(self, candidate: Candidate) -> tuple[Message, ...]:
        """What goes through the chat template; nothing for a format without `chat`."""
        if not self.chat:
            return ()
        question = question_of(candidate.messages)
        system = (Message(role="system", content=self.system),) if self.system else ()
        if self.tag is not None:
            return (*system, Message(role="user", content=question))
        good = self.labels[0] if self.labels else ""
        texts = [question + self.first + candidate.steps[0], *candidate.steps[1:]]
        turns = [Message(role="user", content=text) for text in texts]
        reply = Message(role="assistant", content=good)
        return (*system, *(message for turn in turns[:-1] for message in (turn, reply)), turns[-1])

    def parts(self, candidate: Candidate, bos: str = "") -> Iterator[Part]:
        """What stands behind the messages, or is the prompt where there are none."""
        if not self.chat:
            yield Part("mark", bos)
            yield Part("opening", question_of(candidate.messages) + self.closing)
        if self.tag is not None:
            for number, step in enumerate(candidate.steps):
                yield Part("text", (self.between if number else self.first) + step)
                yield Part("tag", self.tag)


MATH_SHEPHERD = PRMFormat(tag=" ки", first=" ", between="\n")
"""peiyi9979/math-shepherd-mistral-7b-prm (Wang et al., arXiv 2312.08935): P("+") against P("-") at " ки".

Checked: the data set's card (a line a step, each ending in " ки", which marks the place of the score); the
code of the model's card as others repeat it (question, space, solution; the token of "ки" alone, 12902; the
tokens of "+ -", 648 and 387; a softmax over the two at the tag). Its data begin each step with "Step 1: " and
so on; nothing is put in front of steps here. Not checked: scores against the card's, for want of the weights.
"""

RLHFLOW = PRMFormat(chat=True, first=" ")
"""RLHFlow/Llama3.1-8B-PRM-Mistral-Data and -Deepseek-Data (RLHFlow/RLHF-Reward-Modeling, math): P("+")
against P("-") where the assistant replies to the last step.

Checked: huggingface/search-and-learn, `RLHFFlow` in models/reward_models.py, after RLHFlow's own evaluation
(the first turn is question, space, first step; earlier replies are all "+"; the logits at the place before
the reply; no system prompt). Not checked: scores, for want of the weights; and whether the GGUF's
template writes the same date line as transformers does.
"""

SKYWORK = PRMFormat(tag="\n", labels=None, closing="\n")
"""Skywork-o1-Open-PRM-Qwen-2.5-1.5B and -7B: a value head behind a sigmoid at the newline that ends a step.

Checked: skywork-o1-prm-inference as openreasoner/openr and huggingface/search-and-learn copy it
(io_utils.prepare_input: bos, question and newline, then each step and the newline's token, tokenized apart;
prm_model: one linear layer on the last hidden state). A newline within a step ends a step for this model, as
in that code; the value is then that of the last line. Not checked: which token the models' tokenizer has as
bos (here it is the one that the GGUF names), and scores. A GGUF of the base model lacks the head: it belongs
into our own arrays, see `heads.py`.
"""

QWEN_MATH = PRMFormat(
    tag="<extra_0>",
    labels=None,
    chat=True,
    system="Please reason step by step, and put your final answer within \\boxed{}.",
)
"""Qwen/Qwen2.5-Math-PRM-7B and -72B, Qwen2.5-Math-7B-PRM800K (Zhang et al., arXiv 2501.07301): the
probability of the second of two classes at "<extra_0>".

Checked: the models' cards (the system prompt; "<extra_0>" behind each step with nothing around it; a softmax
over two classes), and the head in sglang and TensorRT-LLM (linear, ReLU, linear on the last hidden state).
Not checked: scores, for want of the weights. A GGUF of the base model lacks the head: it belongs into our own
arrays, see `heads.py`, made one output by `mlp.positive_class`.
"""

FORMATS = {
    "math_shepherd": MATH_SHEPHERD,
    "rlhflow": RLHFLOW,
    "skywork": SKYWORK,
    "qwen_math": QWEN_MATH,
}
"""By the names that `load_value` takes in front of a path."""


class PRMValue(Looking):
    """A process reward model in its own format; a chain without steps has no score.

    A format without labels needs a `head`: this one, or else the one in the model's file or beside it. Raises
    `ModelFileError` where there is none that fits, or where the tag is not one token of the model.
    """

    def __init__(self, policy: LocalPolicy, format: PRMFormat, head: ValueHead | None = None) -> None:
        self.format = format
        self._tag = None if format.tag is None else _tag_token(policy.file, format.tag)
        if format.labels is None:
            head = fitting_head(policy.file, head)
            super().__init__(policy, HeadReading(head), f"prm={format.identity}:head={head.identity}")
        else:
            reading = LabelReading.of(policy.file, *format.labels)
            super().__init__(policy, reading, f"prm={format.identity}")

    def _prompt(self, candidate: Candidate) -> Tokens:
        if not candidate.steps:
            raise InputError("the chain has no step that a process reward model could score; add one")
        messages = self.format.messages(candidate)
        tokens = list(self.policy.prompt(messages, "")) if messages else []
        for part in self.format.parts(candidate, self.policy.file.special("bos")):
            tokens += self._tokens(part)
        return tuple(tokens)

    def _tokens(self, part: Part) -> list[int]:
        file, tag = self.policy.file, self.format.tag
        match part.kind:
            case "mark":
                return file.tokenize(part.text, special=True)
            case "tag" if self._tag is not None:
                return [self._tag]
        opens = part.kind == "opening"
        tokens = file.tokenize(part.text) if opens else file.continued(part.text)
        if tag is None or self._tag not in tokens:
            return tokens
        first, *rest = _broken(part.text, tag)
        tokens = file.tokenize(first) if opens else file.continued(first)
        return tokens + [token for piece in rest for token in file.continued(piece)]


def _tag_token(file: ModelFile, tag: str) -> int:
    tokens = file.continued(tag, special=True)
    if len(tokens) != 1:
        raise ModelFileError(
            f"{file.path} has no token {tag!r}, at which this format is read; name a model of this format"
        )
    return tokens[0]


def _broken(text: str, tag: str) -> list[str]:
    """The text, broken in each tag behind its first letter, so that none is one token."""
    mark = tag.strip()
    if len(mark) < 2:
        return [text]
    first, *rest = text.split(mark)
    pieces = [first]
    for piece in rest:
        pieces[-1] += mark[0]
        pieces.append(mark[1:] + piece)
    return pieces
