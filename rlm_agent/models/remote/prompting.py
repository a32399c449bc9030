"""From a request to the tokens of its prompt, by a vocabulary that lies here or by the server's own.

The texts of users, tools and models never become control tokens: contents are tokenized apart from the chat
template, as in `gguf/chat.py`.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol

from rlm_agent.models.gguf.chat import ChatTemplate, with_space
from rlm_agent.models.gguf.file import ModelFile
from rlm_agent.models.gguf.named import NamedTokens, split_special
from rlm_agent.models.protocols import Message
from rlm_agent.models.remote.client import Client
from rlm_agent.structure.errors import InputError, ServerError

Tokens = tuple[int, ...]
_MARKS = re.compile("\ue000(\\d+)\ue001")
_KEPT = 4096


class Prompting(Protocol):
    """Makes the tokens of prompts."""

    async def prompt(self, messages: Sequence[Message], prefix: str, special: Collection[str]) -> Tokens:
        """The tokens of a conversation and of the assistant's turn so far, in which each of `special` stands
        for its token; `InputError` for one that the model lacks.
        """

    async def tokens(self, text: str, *, special: bool = False) -> Tokens:
        """The tokens of a text; only with `special` do texts such as `</s>` become control tokens."""


class LocalPrompting:
    """By the vocabulary and the chat template in a GGUF file; its weights are not loaded."""

    def __init__(self, path: Path) -> None:
        self.file = ModelFile(path, vocabulary_only=True)
        self.template = ChatTemplate(self.file)
        self._named = NamedTokens(self.file)

    async def prompt(self, messages: Sequence[Message], prefix: str, special: Collection[str]) -> Tokens:
        """See `Prompting`."""
        return self.written(messages, prefix, special)

    def written(self, messages: Sequence[Message], prefix: str, special: Collection[str] = ()) -> Tokens:
        """See `prompt`, which needs no server here."""
        for text in special:
            self._named.token(text)
        return (*self.template.tokens(messages), *self._named.tokenize(prefix, special))

    async def tokens(self, text: str, *, special: bool = False) -> Tokens:
        """See `Prompting`."""
        return tuple(self.file.tokenize(text, special=special))

    def text(self, tokens: Tokens) -> str:
        """The text that a server would have to read as these tokens; `InputError` where it would not.

        That happens where a content holds the text of a control token.
        """
        text = b"".join(self.file.piece(token, special=True) for token in tokens).decode(errors="replace")
        if tuple(self.file.tokenize(text, special=True)) != tokens:
            raise InputError(
                "the conversation holds the text of a control token, which this server would take for one; "
                "take it out, or use a server that takes prompts as tokens"
            )
        return text


class ServerPrompting:
    """By llama.cpp's server itself: `/apply-template` and `/tokenize`, asked once for each text."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._kept: OrderedDict[object, asyncio.Task[Any]] = OrderedDict()

    async def prompt(self, messages: Sequence[Message], prefix: str, special: Collection[str]) -> Tokens:
        """See `Prompting`."""
        key = ("chat", tuple((message["role"], message["content"]) for message in messages))
        start: Tokens = await self._once(key, lambda: self._chat(messages))
        for text in special:
            await self._named(text)
        rest = list[int]()
        for text, named in split_special(prefix, special):
            if text:
                rest += await (self._named(text) if named else self._continued(text))
        return (*start, *rest)

    async def tokens(self, text: str, *, special: bool = False) -> Tokens:
        """See `Prompting`."""
        tokens: Tokens = await self._once((text, special), lambda: self._tokenize(text, special=special))
        return tokens

    async def _chat(self, messages: Sequence[Message]) -> Tokens:
        contents = [message["content"] for message in messages]
        marked = [
            {"role": message["role"], "content": f"\ue000{index}\ue001" if message["content"] else ""}
            for index, message in enumerate(messages)
        ]
        body = {"messages": marked}
        text = await self._client.post("/apply-template", body, lambda said: str(said["prompt"]))
        pieces = _MARKS.split(text)
        if any(mark in piece for piece in pieces[::2] for mark in "\ue000\ue001"):
            raise ServerError(
                f"the chat template of {self._client.address.shown} takes texts apart; give a tokenizer"
            )
        tokens, opens = list(await self._tokenize("", special=True, begin=True)), True
        for text, special in _in_turn(pieces[::2], [contents[int(piece)] for piece in pieces[1::2]]):
            tokens += await (self.tokens if opens else self._continued)(text, special=special)
            opens = special and await self._ends_in_control(text)
        return tuple(tokens)

    async def _ends_in_control(self, text: str) -> bool:
        """Whether the last token of a template's text is more than text."""
        return (await self.tokens(text, special=True))[-1:] != (await self.tokens(text))[-1:]

    async def _continued(self, text: str, *, special: bool = False) -> Tokens:
        """The tokens of a text behind another one: see `ModelFile.continued`."""
        line, letter, both = [await self.tokens(some) for some in ("\n", "a", "\na")]
        if both == line + letter:  # nothing is put before a text
            return await self.tokens(text, special=special)
        tokens = await self.tokens(f"\n{text}", special=special)
        if tokens[: len(line)] != line:
            return await self.tokens(text, special=special)
        return tokens[len(line) :]

    async def _named(self, text: str) -> Tokens:
        tokens = await self.tokens(text, special=True)
        if len(tokens) != 1:
            raise InputError(
                f"the model of {self._client.address.shown} has no token {text!r}; take one whose vocabulary "
                "has it, or end steps with plain text by Steps(delimiter=...)"
            )
        return tokens

    async def _tokenize(self, text: str, *, special: bool, begin: bool = False) -> Tokens:
        body = {"content": text, "add_special": begin, "parse_special": special}
        return await self._client.post("/tokenize", body, lambda said: tuple(map(int, said["tokens"])))

    async def _once(self, key: object, make: Callable[[], Awaitable[Any]]) -> Any:
        """What was made for this key before, by whoever asked first; a failure is not kept."""
        task = self._kept.get(key)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._kept[key] = asyncio.ensure_future(make())
        self._kept.move_to_end(key)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return await asyncio.shield(task)


def _in_turn(parts: Sequence[str], contents: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """What a template writes and what comes between, and of each whether it may hold control tokens."""
    for pair in zip_longest(parts, contents, fillvalue=""):
        for text, special in zip(with_space(*pair), (True, False), strict=True):
            if text:
                yield text, special
