"""From messages to prompt tokens, by the model's own chat template.

Contents are kept out of the template's sight: it renders marks in their place, and each content is
tokenized by itself without control tokens. A user's text can therefore not end its own turn.
"""

import re
from collections.abc import Sequence
from typing import Any

from rlm_agent.models.gguf.file import ModelFile
from rlm_agent.models.protocols import Message
from rlm_agent.structure.errors import ModelFileError

_MARK = "\ue000{}\ue001"
_MARKS = re.compile("\ue000(\\d+)\ue001")
_PLAIN = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
"""For a base model that brings no template: the contents, a line each."""

_KEPT = 64

_FAULTS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a template that someone else wrote may run into beside its own errors."""


class ChatTemplate:
    """The template of one model; `ModelFileError` where it cannot be parsed."""

    def __init__(self, file: ModelFile) -> None:
        from jinja2 import TemplateError
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        self._file = file
        self._error = TemplateError
        self._known: dict[tuple[tuple[str, str], ...], list[int]] = {}
        source = file.metadata.get("tokenizer.chat_template", _PLAIN)
        try:
            self._render: Any = Jinja2ChatFormatter(
                source, eos_token=file.special("eos"), bos_token=file.special("bos")
            )
        except TemplateError as error:
            raise ModelFileError(f"{file.path} has a broken chat template; export it again") from error

    def tokens(self, messages: Sequence[Message]) -> list[int]:
        """The prompt up to the point where the assistant's turn begins; the last conversations are kept."""
        key = tuple((message["role"], message["content"]) for message in messages)
        known = self._known.pop(key, None)
        self._known[key] = tokens = known or self._tokens(messages)
        while len(self._known) > _KEPT:
            del self._known[next(iter(self._known))]
        return tokens

    def _tokens(self, messages: Sequence[Message]) -> list[int]:
        marked = [{**message, "content": _MARK.format(i)} for i, message in enumerate(messages)]
        tokens: list[int] = []
        try:
            text: str = self._render(messages=marked).prompt
            for position, part in enumerate(_MARKS.split(text)):
                content = position % 2 == 1
                text = messages[int(part)]["content"] if content else part
                tokens += self._file.tokenize(text, special=not content)
        except (self._error, *_FAULTS) as error:
            raise ModelFileError(
                f"the chat template of {self._file.path} refuses these messages ({error}); change their roles"
            ) from error
        if not tokens:
            raise ModelFileError(f"the chat template of {self._file.path} leaves no prompt; export it again")
        return tokens
