"""From messages and tools to prompt tokens, by the model's own chat template.

Texts are kept out of the template's sight: it renders marks in their place, and each text is put back
without control tokens. A user, a tool or the definition of a tool can therefore not end its own turn.

A template may put a text into JSON. Its mark holds a quote, which JSON escapes: the backslashes before it
tell how often the text has to be escaped when it is put back.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

from rlm_agent.models.gguf.file import ModelFile, binding
from rlm_agent.models.gguf.sampling.schemas import check_json
from rlm_agent.models.gguf.toolcalls import HERMES, Call, Style, Tool, check_tools, detect_style
from rlm_agent.models.protocols import Message
from rlm_agent.structure.errors import ModelFileError

_MARK = '\ue000{}"\ue001'
_MARKS = re.compile(r'(?:\ue000|\\+ue000)(\d+)(\\*)"(?:\ue001|\\+ue001)')
_REMAINS = re.compile("[\ue000\ue001]")
_PLAIN = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
"""For a base model that brings no template: the contents, a line each."""

_TAGS = "<tool_call> </tool_call> <tool_response> </tool_response>"
_KEPT = 64
_EXTRAS = ("name", "tool_calls", "tool_call_id")
_ROLES = frozenset(("system", "user", "assistant", "tool"))
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_KEYWORDS = frozenset(
    "function type name description parameters properties required enum const items default title format"
    " anyOf oneOf allOf $ref $defs definitions additionalProperties minimum maximum minItems maxItems"
    " minLength maxLength pattern nullable strict object array string number integer boolean null".split()
)
"""Words of tool definitions, harmless by themselves, that templates look at."""

_FAULTS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What a template that someone else wrote may run into beside its own errors."""


class Turn(TypedDict):
    """A `Message` that may also call tools, or hold the result of the call `tool_call_id`."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    name: NotRequired[str]
    tool_calls: NotRequired[Sequence[Call]]
    tool_call_id: NotRequired[str]


class ChatTemplate:
    """The template of one model; `ModelFileError` where it cannot be parsed.

    `style` is the form in which the prompt asks the model to write calls of tools.
    """

    def __init__(self, file: ModelFile) -> None:
        from jinja2 import TemplateError
        from llama_cpp.llama_chat_format import Jinja2ChatFormatter

        self._file = file
        self._error = TemplateError
        self._known: dict[object, list[int]] = {}
        source = file.metadata.get("tokenizer.chat_template", _PLAIN)
        try:
            self._render: Any = Jinja2ChatFormatter(
                source, eos_token=file.special("eos"), bos_token=file.special("bos")
            )
        except TemplateError as error:
            raise ModelFileError(f"{file.path} has a broken chat template; export it again") from error
        self.knows_tools = self._knows_tools()
        self.style = self._style(source)
        self._fences = self._fence(source)

    def tokens(self, messages: Sequence[Message | Turn], *, tools: Sequence[Tool] = ()) -> list[int]:
        """The prompt up to the point where the assistant's turn begins; the last conversations are kept.

        A template that does not know tools, or refuses these calls, gets them in the words of a system
        message, which asks for calls in `style`. `GrammarError` for tools or calls that are too large.
        """
        key = _key(messages, tools)
        known = self._known.pop(key, None)
        self._known[key] = tokens = known or self._tokens(messages, tools)
        while len(self._known) > _KEPT:
            del self._known[next(iter(self._known))]
        return tokens

    def _tokens(self, messages: Sequence[Message | Turn], tools: Sequence[Tool]) -> list[int]:
        turns: list[dict[str, Any]] = [{**message} for message in messages]
        if not tools and not any(turn["role"] == "tool" or turn.get("tool_calls") for turn in turns):
            return self._filled(turns)
        if self.knows_tools:
            try:
                return self._filled(turns, tools)
            except ModelFileError:
                pass  # some templates take one call at a time, or ids of one length
        told = _told(turns, tools, self.style)
        try:
            return self._filled(told)
        except ModelFileError:
            return self._filled(_without_system(told))

    def _filled(self, turns: Sequence[Mapping[str, Any]], tools: Sequence[Tool] = ()) -> list[int]:
        texts = _Texts()
        try:
            marked = [texts.turn(turn) for turn in turns]
            text = self._rendered(marked, texts.value(list(tools)))
            tokens = self._put_back(text, texts.kept)
        except (self._error, *_FAULTS) as error:
            raise ModelFileError(
                f"the chat template of {self._file.path} refuses these messages ({error}); change their roles"
            ) from error
        if not tokens:
            raise ModelFileError(f"the chat template of {self._file.path} leaves no prompt; export it again")
        return tokens

    def _rendered(self, turns: Sequence[Mapping[str, Any]], tools: Sequence[Any]) -> str:
        text: str = self._render(messages=turns, tools=tools or None).prompt
        return text

    def _put_back(self, text: str, kept: Sequence["_Text"]) -> list[int]:
        """The tokens of a rendered text, its marks replaced.

        A content is tokenized by itself (`with_space`). Values lie within JSON, which the model has learned
        in one piece: all between the template's control tokens is tokenized together, without control tokens.
        """
        pieces = _MARKS.split(text)
        parts, marks = _with_spaces(pieces[::3], [kept[int(index)] for index in pieces[1::3]])
        tokens: list[int] = []
        run = ""
        for i, part in enumerate(parts):
            if _REMAINS.search(part):
                raise ValueError("it takes texts apart")
            before, after = i > 0 and marks[i - 1].inline, i < len(marks) and marks[i].inline
            head, middle, tail = self._cut(part) if before or after else ("", part, "")
            if middle:
                if before:
                    tokens += self._plain(tokens, run + head)
                else:
                    middle = head + middle
                if not after:
                    middle, tail = middle + tail, ""
                tokens += self._behind(tokens, middle, special=True)
                run = tail
            else:
                run += head
            if after:
                run += _escaped(marks[i].text, pieces[3 * i + 2])
                continue
            tokens += self._plain(tokens, run)
            run = ""
            if i < len(marks):
                one = marks[i]
                inside = _escaped(one.text, pieces[3 * i + 2])
                tokens += self._plain(tokens, inside) if one.guarded else self._behind(tokens, inside)
        return tokens

    def _cut(self, part: str) -> tuple[str, str, str]:
        """Part of the template before its first control token, up to the end of its last, and the rest."""
        found = [text for text in self._special(self._file.tokenize(part, special=True)) if text in part]
        if not found:
            return part, "", ""
        start, end = part.find(found[0]), part.rfind(found[-1]) + len(found[-1])
        return part[:start], part[start:end], part[end:]

    def _behind(self, tokens: Sequence[int], text: str, *, special: bool = False) -> list[int]:
        """The tokens of a text behind others; a vocabulary's own space stands behind control tokens alone."""
        opens = not tokens or bool(self._special(tokens[-1:]))
        tokenize = self._file.tokenize if opens else self._file.continued
        return tokenize(text, special=special)

    def _plain(self, before: Sequence[int], text: str) -> list[int]:
        """Tokens of a text that is not trusted and comes after others.

        llama.cpp finds tokens that the vocabulary calls user-defined, such as `<tool_call>`, in any text;
        so those that the template or a conversation in words may use are taken apart.
        """
        pieces = self._fences.split(text) if self._fences else [text]
        tokens: list[int] = []
        for piece in filter(None, pieces):
            tokens += self._behind(tokens or before, piece)
        return tokens

    def _fence(self, source: str) -> re.Pattern[str] | None:
        used = self._file.tokenize(f"{source} {_TAGS}")
        words = [re.escape(text[0]) + ")(?=" + re.escape(text[1:]) for text in set(self._special(used))]
        return re.compile("|".join(f"(?<={word})" for word in sorted(words))) if words else None

    def _special(self, tokens: Sequence[int]) -> list[str]:
        """The texts of those tokens that are more than text, in order."""
        lib, vocabulary = binding(), self._file.vocabulary
        kinds = (
            lib.LLAMA_TOKEN_ATTR_CONTROL | lib.LLAMA_TOKEN_ATTR_USER_DEFINED | lib.LLAMA_TOKEN_ATTR_UNKNOWN
        )
        texts = [
            lib.llama_vocab_get_text(vocabulary, token).decode(errors="replace")
            for token in tokens
            if lib.llama_vocab_get_attr(vocabulary, token) & kinds
        ]
        return [text for text in texts if len(text.strip()) > 2]  # runs of spaces are user-defined, too

    def _style(self, source: str) -> Style:
        style = detect_style(source) if self.knows_tools else HERMES
        opening = self._file.tokenize(style.opening, special=True)
        return replace(style, silent=not any(self._file.piece(token) for token in opening))

    def _knows_tools(self) -> bool:
        """Whether a tool, a call and its result each leave something in what the template renders."""
        question: dict[str, Any] = {"role": "user", "content": "q"}
        call = {"name": "rlm_name", "arguments": {"key": "rlm_argument"}}
        calls = [{"id": "call00000", "type": "function", "function": call}]
        turns: list[dict[str, Any]] = [
            question,
            {"role": "assistant", "content": "", "tool_calls": calls},
            {"role": "tool", "content": "rlm_result", "name": "rlm_name", "tool_call_id": "call00000"},
        ]
        parameters = {"type": "object", "properties": {"key": {"type": "string", "description": "a key"}}}
        function = {"name": "rlm_tool", "description": "a tool", "parameters": parameters}
        tools = [{"type": "function", "function": function}]
        try:
            listed, called = self._rendered([question], tools), self._rendered(turns, tools)
        except (self._error, *_FAULTS):
            return False
        return "rlm_tool" in listed and all(
            f"rlm_{word}" in called for word in ("name", "argument", "result")
        )


class _Text(NamedTuple):
    """What a mark stands for: `inline` within other text, `guarded` where a stranger wrote it."""

    text: str
    inline: bool
    guarded: bool


def with_space(part: str, content: str) -> tuple[str, str]:
    """What a template writes, and a content behind it, with the space that stands before it.

    Vocabularies begin words with their spaces.
    """
    return (part[:-1], f" {content}") if content and part.endswith(" ") else (part, content)


def _with_spaces(parts: Sequence[str], texts: Sequence[_Text]) -> tuple[list[str], list[_Text]]:
    """What the template writes and what comes between; contents have their spaces."""
    cut, whole = list(parts), list(texts)
    for i, (part, text) in enumerate(zip(parts, texts, strict=False)):
        if not text.inline:
            cut[i], spaced = with_space(part, text.text)
            whole[i] = text._replace(text=spaced)
    return cut, whole


class _Texts:
    """Takes texts out of messages and leaves marks; a value that occurs twice has one mark."""

    def __init__(self) -> None:
        self.kept: list[_Text] = []
        self._values: dict[str, str] = {}

    def turn(self, turn: Mapping[str, Any]) -> dict[str, Any]:
        """A message with marks; an empty content stays one, since templates look for that."""
        role, content = turn["role"], turn["content"] or ""
        marked: dict[str, Any] = {"role": role if role in _ROLES else self.value(role)}
        marked["content"] = self._mark(content, False, role in ("user", "tool")) if content else ""
        if turn.get("tool_calls"):
            marked["tool_calls"] = [
                {
                    "id": self._id(call["id"]),
                    "type": "function",
                    "function": {
                        "name": self.value(call["function"]["name"]),
                        "arguments": self.value(call["function"]["arguments"]),
                    },
                }
                for call in turn["tool_calls"]
            ]
        if "tool_call_id" in turn:
            marked["tool_call_id"] = self._id(turn["tool_call_id"])
        if "name" in turn:
            marked["name"] = self.value(turn["name"])
        return marked

    def value(self, value: Any) -> Any:
        """A value of JSON, its strings marked."""
        if isinstance(value, str):
            if value in _KEYWORDS or not value:
                return value
            if value not in self._values:
                self._values[value] = self._mark(value, True, True)
            return self._values[value]
        if isinstance(value, Mapping):
            return {self.value(key): self.value(each) for key, each in value.items()}
        return [self.value(each) for each in value] if isinstance(value, list | tuple) else value

    def _id(self, text: str) -> str:
        marked: str = text if _ID.fullmatch(text) else self.value(text)  # templates count its letters
        return marked

    def _mark(self, text: str, inline: bool, guarded: bool) -> str:
        self.kept.append(_Text(text, inline, guarded))
        return _MARK.format(len(self.kept) - 1)


def _escaped(text: str, slashes: str) -> str:
    """A text after JSON as often as its mark, whose quote then has 0, 1, 3, … backslashes."""
    for _ in range((len(slashes) + 1).bit_length() - 1):
        text = json.dumps(text, ensure_ascii=False)[1:-1]
    return text


def _key(messages: Sequence[Message | Turn], tools: Sequence[Tool]) -> object:
    """What tells conversations apart; `GrammarError` where tools or calls are too large to tell."""
    plain = tuple((message["role"], message["content"]) for message in messages)
    rest = [{key: message.get(key) for key in _EXTRAS} for message in messages if len(message) > 2]
    if not tools and not rest:
        return plain
    check_tools(tools)
    for each in rest:
        check_json(each, "the calls")
    return plain, json.dumps([len(message) > 2 for message in messages]), json.dumps([rest, [*tools]])


def _told(turns: Sequence[Mapping[str, Any]], tools: Sequence[Tool], style: Style) -> list[dict[str, Any]]:
    """The conversation for a template that knows neither tools nor calls, all in words."""
    told: list[dict[str, Any]] = []
    for turn in turns:
        calls = turn.get("tool_calls") or ()
        if turn["role"] == "tool":
            said = _line({"tool_call_id": turn.get("tool_call_id"), "result": turn["content"]})
            new = {"role": "user", "content": f"<tool_response>\n{said}\n</tool_response>"}
        else:
            lines = [turn["content"] or "", *(_written(call["function"], style) for call in calls)]
            new = {"role": turn["role"], "content": "\n".join(filter(None, lines))}
        results = bool(told) and told[-1]["content"].startswith("<tool_response>")
        if results and new["role"] == told[-1]["role"] == "user":  # templates want roles to alternate
            told[-1]["content"] += "\n" + new["content"]
        else:
            told.append(new)
    if tools:
        lines = ["You may call these tools:", *(_line(tool["function"]) for tool in tools)]
        form = _written({"name": "…", "arguments": {"…": "…"}}, style)
        text = "\n".join([*lines, "To call one, write its name and its arguments in this form:", form])
        first = told.pop(0)["content"] + "\n\n" if told and told[0]["role"] == "system" else ""
        told.insert(0, {"role": "system", "content": first + text})
    return told


def _without_system(turns: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The same where the system's words are the beginning of the user's."""
    if len(turns) < 2 or turns[0]["role"] != "system" or turns[1]["role"] != "user":
        return list(turns)
    words = turns[0]["content"] + "\n\n" + turns[1]["content"]
    return [{"role": "user", "content": words}, *turns[2:]]


def _written(function: Mapping[str, Any], style: Style) -> str:
    call = _line({"name": function["name"], style.arguments: function["arguments"]})
    call = f"[{call}]" if style.listed else call
    lines = ["" if style.bare else style.opening, call, style.closing]
    return "\n".join(filter(None, lines))


def _line(value: Any) -> str:
    """JSON on a line; no text in it can look like a tag."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")
