"""Calls of tools in a model's text: grammars that force them, and how they are read back.

Models write calls in the form that their chat template shows them; three forms are known (`Style`). A
definition of a tool may come from a user, and what a model writes always does, in effect: both are bounded
here, and what cannot be read as a call stays text.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict

from rlm_agent.models.gguf.sampling.schemas import WIDEST, check_json, json_grammar, literal
from rlm_agent.structure.errors import GrammarError
from rlm_agent.structure.ids import derive_seed

_MOST_TOOLS, _MOST_CALLS = 128, 64
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Function(TypedDict):
    """What a tool does, and the JSON schema of its arguments; none where it takes none."""

    name: str
    description: NotRequired[str]
    parameters: NotRequired[Mapping[str, Any]]


class Tool(TypedDict):
    """A tool that a model may call, as OpenAI's interface defines it."""

    type: Literal["function"]
    function: Function


class Called(TypedDict):
    """Which tool is called, and with what."""

    name: str
    arguments: Mapping[str, Any]


class Call(TypedDict):
    """A call of a tool; the message with its result refers to `id`."""

    id: str
    type: Literal["function"]
    function: Called


class Unread(NamedTuple):
    """A text that looks like a call and is none, and why."""

    text: str
    error: str


class Parsed(NamedTuple):
    """What a model wrote beside its calls, its calls, and what it did not manage to call."""

    content: str
    calls: tuple[Call, ...]
    unread: tuple[Unread, ...]


@dataclass(frozen=True, slots=True)
class Style:
    """The form in which a model writes calls: JSON objects with "name" and the key `arguments`.

    `opening` stands before a call and `closing` after it; `listed` says that one opening is followed by an
    array of calls. `bare` says that a text that begins with JSON is a call without an opening, as Llama 3
    writes it; `silent`, that the opening is a control token, which leaves no text.
    """

    name: str
    opening: str
    closing: str = ""
    arguments: str = "arguments"
    listed: bool = False
    bare: bool = False
    silent: bool = False


HERMES = Style("hermes", "<tool_call>", "</tool_call>")
LLAMA = Style("llama", "<|python_tag|>", arguments="parameters", bare=True)
MISTRAL = Style("mistral", "[TOOL_CALLS]", listed=True)


def detect_style(template: str) -> Style:
    """The form that a chat template's source shows to its model; Hermes' where it shows none."""
    if HERMES.opening not in template:
        if MISTRAL.opening in template:
            return MISTRAL
        if LLAMA.opening in template or '"parameters":' in template:
            return LLAMA
    return HERMES


def check_tools(tools: Sequence[Tool]) -> None:
    """`GrammarError` where there are too many tools, or one is too large, too deep, or has no proper name."""
    if len(tools) > _MOST_TOOLS:
        raise GrammarError(f"there are {len(tools)} tools; offer {_MOST_TOOLS} at most")
    names = [tool["function"]["name"] for tool in tools]
    for name in names:
        if not _NAME.fullmatch(name):
            raise GrammarError(f"{name[:80]!r} cannot name a tool; use letters, digits, '_', '-' and '.'")
        if names.count(name) > 1:
            raise GrammarError(f"two tools are named {name!r}; rename one")
    check_json(list(tools), "the tools", widest=WIDEST)


# --- grammars -----------------------------------------------------------------------------------------------


def call_grammar(
    tools: Sequence[Tool], *, choice: str = "auto", parallel: bool = False, style: Style = HERMES
) -> str | None:
    """The grammar of an answer by which a model may call `tools`; None where nothing is forced.

    `choice` is "auto" for text that may end in a call, "required" for a call, "none" for whatever the model
    writes, or the name of the tool to call. With `parallel` there may be several calls. Arguments follow
    their schema as far as `json_grammar` says. Under "auto" no text contains the style's opening except
    before a well-formed call; in a bare or silent style it does not begin with JSON either.
    Raises `GrammarError` for a tool that is not there, and for tools that are too many or too large.
    """
    check_tools(tools)
    if choice == "none" or (choice == "auto" and not tools):
        return None
    chosen = [t for t in tools if choice in ("auto", "required", t["function"]["name"])]
    if not chosen:
        raise GrammarError(f"no tool answers the choice {choice!r}; name one of the tools, or 'auto'")
    forced = f"root ::= {literal(style.opening)}{'?' if style.bare else ''} calls"
    rules = list(_text_rules(style)) if choice == "auto" else [forced]
    rules.append(f"calls ::= {_calls(style, parallel)}")
    rules.append("call ::= " + " | ".join(f"call-{i}" for i in range(len(chosen))))
    for i, tool in enumerate(chosen):
        function = tool["function"]
        start = f'{{"name": "{function["name"]}", "{style.arguments}": '
        rules.append(f'call-{i} ::= {literal(start)} t{i}-root "}}"')
        schema = function.get("parameters") or {"type": "object", "properties": {}}
        rules.append(_renamed(json_grammar(schema), f"t{i}-"))
    return "\n".join(rules)


def either_grammar(*grammars: str) -> str:
    """The grammar of texts that follow one of several."""
    roots = " | ".join(f"e{i}-root" for i in range(len(grammars)))
    return "\n".join([f"root ::= {roots}", *(_renamed(each, f"e{i}-") for i, each in enumerate(grammars))])


def call_id(seed: int, index: int) -> str:
    """The id of a call: nine hexadecimal digits, as some templates want them."""
    return f"{derive_seed(seed, 'call', index):016x}"[-9:]


_SYMBOLS = re.compile(r'"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|(?P<name>[A-Za-z0-9-]+)', re.DOTALL)


def _renamed(grammar: str, prefix: str) -> str:
    """The grammar with a prefix before the name of each rule, so that several fit into one."""
    return _SYMBOLS.sub(lambda match: prefix + match[0] if match["name"] else match[0], grammar)


def _calls(style: Style, parallel: bool) -> str:
    """What follows the opening."""
    if style.listed:
        return '" "? "[" call' + (' (", " call)*' if parallel else "") + ' "]"'
    if not style.closing:
        return "call" + (' ("; " call)*' if parallel else "")
    one = f'"\\n"? call "\\n"? {literal(style.closing)}'
    more = f' ("\\n" {literal(style.opening)} {one})*' if parallel else ""
    return one + more


def _text_rules(style: Style) -> Iterator[str]:
    """Rules of text in which the opening is followed by calls: the automaton of Knuth, Morris and Pratt.

    Rule `text-k` goes on where the last k letters are the first k of the opening.
    """
    opening = style.opening
    if style.bare or style.silent:
        head = _set(opening[0] + "{[ \n\t")
        first = f'{head} text-0 | {literal(opening[0])} {_after(opening, 1)} | ""'
        yield f"root ::= [ \\n\\t]* ({'calls | ' if style.bare else ''}{first})"
    else:
        yield "root ::= text-0"
    for state in range(len(opening)):
        steps = {letter: _fall(opening, opening[:state] + letter) for letter in sorted(set(opening))}
        ways = [f"{literal(letter)} {_after(opening, to)}" for letter, to in steps.items() if to]
        others = _set("".join(letter for letter, to in steps.items() if to))
        yield f'text-{state} ::= "" | {others} text-0 | ' + " | ".join(ways)


def _after(opening: str, state: int) -> str:
    return "calls" if state == len(opening) else f"text-{state}"


def _fall(opening: str, seen: str) -> int:
    """How many letters of the opening `seen` ends with."""
    return next(k for k in range(len(seen), -1, -1) if seen.endswith(opening[:k]))


def _set(letters: str) -> str:
    """Any character but these."""
    return "[^" + "".join(f"\\x{ord(letter):02X}" for letter in letters) + "]"


# --- reading ------------------------------------------------------------------------------------------------


def parse_calls(
    text: str, style: Style = HERMES, *, tools: Sequence[Tool] | None = None, seed: int = 0
) -> Parsed:
    """The calls in what a model wrote, and the text around them.

    Nothing is raised: what looks like a call and cannot be read, or names a tool that is not among `tools`,
    stays in the text and is reported. A call's id is nine hexadecimal digits, as some templates want them,
    and depends on `seed`, that of the request, and on how many calls came before.
    """
    known = None if tools is None else {tool["function"]["name"] for tool in tools}
    kept, called, unread = list[str](), list[Called](), list[Unread]()
    at = search = 0
    openings = _openings(style)
    while len(called) + len(unread) < _MOST_CALLS and (match := openings.search(text, search)):
        block = _read(text, match.end(), style, known)
        search = max(block.end, match.start() + 1)
        if block.calls:
            kept.append(text[at : match.start()] + block.left)
            at = block.end
        called += block.calls
        if block.calls or match[0].strip():  # JSON that nothing announces as a call is just text
            unread += block.unread
    content = "".join([*kept, text[at:]])
    calls = tuple(Call(id=call_id(seed, i), type="function", function=each) for i, each in enumerate(called))
    return Parsed(content.strip() if calls else content, calls, tuple(unread))


def _openings(style: Style) -> re.Pattern[str]:
    opening = rf"{re.escape(style.opening)}\s*"
    return re.compile(rf"{opening}|\A\s*(?=[\[{{])" if style.bare or style.silent else opening)


@dataclass(slots=True)
class _Block:
    """What one opening led to: calls up to `end`, and what is `left` of them as text."""

    end: int
    calls: list[Called] = field(default_factory=list)
    left: str = ""
    unread: list[Unread] = field(default_factory=list)


def _read(text: str, start: int, style: Style, known: set[str] | None) -> _Block:
    """The calls that begin at `start`; several where nothing needs to stand between them."""
    block = _Block(start)
    while True:
        try:
            value, end = _DECODER.raw_decode(text, start)
            check_json(value, "the calls")
        except (ValueError, RecursionError) as error:
            if not block.calls:
                block.unread.append(Unread(text[start : start + _SHOWN], f"no JSON: {error}"))
            return block
        for each in value if style.listed and isinstance(value, list) else [value]:
            try:
                block.calls.append(_called(each, style, known))
            except (ValueError, RecursionError) as error:
                shown = json.dumps(each, ensure_ascii=False)
                block.left += shown
                block.unread.append(Unread(shown[:_SHOWN], str(error)))
        block.end = _after_call(text, end, style)
        between = _BETWEEN.match(text, block.end)
        start = between.end() if between else block.end
        more = (style.bare or style.silent) and not style.listed and text.startswith("{", start)
        if not more or not block.calls or len(block.calls) >= _MOST_CALLS:
            return block


def _called(value: Any, style: Style, known: set[str] | None) -> Called:
    """`ValueError` where a value is no call."""
    if not isinstance(value, dict) or not isinstance(name := value.get("name"), str):
        raise ValueError('a call is an object with "name"')
    if known is not None and name not in known:
        raise ValueError(f"there is no tool {name[:80]!r}")
    keys = [key for key in (style.arguments, "arguments", "parameters") if key in value]
    arguments = value[keys[0]] if keys else None
    if isinstance(arguments, str):  # some models write the arguments as JSON in a string
        arguments = _DECODER.decode(arguments)
        check_json(arguments, "the arguments")
    if not isinstance(arguments, dict):
        raise ValueError(f'a call has an object "{style.arguments}"')
    return Called(name=name, arguments=arguments)


def _after_call(text: str, end: int, style: Style) -> int:
    """Where the closing ends, if there is one: a generation may stop before it."""
    rest = re.compile(rf"\s*{re.escape(style.closing)}").match(text, end) if style.closing else None
    return rest.end() if rest else end


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


_SHOWN = 200
_DECODER = json.JSONDecoder(strict=False, parse_constant=_refuse)
_BETWEEN = re.compile(r"[\s;,]+")
