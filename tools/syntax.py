"""How a policy writes that it calls tools: one protocol, in lines of text or in JSON.

Sources: ReAct (Yao et al., arXiv 2210.03629) and GSM8K's calculator annotations for text, see
`tools.actions`; JSON objects with a name and arguments as models write them that were trained to call tools.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from rlm_agent.tools.actions import Call, Unreadable, read_action

Schemas = Mapping[str, Mapping[str, Any]]
"""The tools that there are, and the JSON schema of what each takes."""

Asked = tuple[Call | Unreadable, ...]
"""What a step calls, in order, or has meant to; empty for a step that calls nothing."""

_LABEL = "Action: "
_MOST_CALLS = 16
_LONGEST = 100_000
_MOST_DESCRIBED = 500
"""How many letters of a tool's description a model is told."""


class Syntax(Protocol):
    """How calls are written. Ends and observations are written alike in all, see `tools.actions`."""

    @property
    def identity(self) -> str:
        """What tells one from another; stored with a run."""

    @property
    def told(self) -> str | None:
        """How a model is told of it and of the `{tools}`; None where the policy's own words (`act`) do."""

    def described(self, name: str, description: str, schema: Mapping[str, Any]) -> str:
        """A tool as a model is told of it, on a line."""

    def read(self, text: str, tools: Schemas) -> Asked:
        """What a step calls."""


@dataclass(frozen=True, slots=True)
class ReAct:
    """One call a step, `Action: name[argument]`, or `<<48/2=` at its end for the calculator."""

    identity: str = "react"
    told: str | None = None

    def described(self, name: str, description: str, schema: Mapping[str, Any]) -> str:
        """See `Syntax`."""
        return f"- {name}: {' '.join(description.split())[:_MOST_DESCRIBED]}"

    def read(self, text: str, tools: Schemas) -> Asked:
        """See `Syntax`."""
        action = read_action(text, tools)
        return () if action is None else (action,)


@dataclass(frozen=True, slots=True)
class JsonCalls:
    """JSON objects `{"name": …, "arguments": {…}}` at the end of a step, which are several calls at once.

    `opening` stands before them and `closing` behind; behind `key` stand the arguments. Where the opening is
    `Action: `, a model may write its calls as `ReAct` has them as well.
    """

    opening: str = _LABEL
    closing: str = ""
    key: str = "arguments"

    @property
    def identity(self) -> str:
        """See `Syntax`."""
        return f"json:{self.opening}:{self.closing}:{self.key}"

    @property
    def told(self) -> str:
        """See `Syntax`."""
        form = f'{self.opening}{{"name": "…", "{self.key}": {{"…": "…"}}}}{self.closing}'
        return (
            f"You can use tools. To use one, end a step with a line such as {form}; the next line is then "
            "its result, Observation: …, which you never write yourself. These are the tools:\n{tools}\n"
            "When you know the answer, write Finish[answer]."
        )

    def described(self, name: str, description: str, schema: Mapping[str, Any]) -> str:
        """See `Syntax`."""
        told = " ".join(description.split())[:_MOST_DESCRIBED]
        return json.dumps({"name": name, "description": told, "parameters": schema}, ensure_ascii=False)

    def read(self, text: str, tools: Schemas) -> Asked:
        """See `Syntax`."""
        at = text.find(self.opening.strip())
        rest = text[at + len(self.opening.strip()) :].strip() if at >= 0 else ""
        if at < 0 or (self.opening == _LABEL and not rest.startswith(("{", "["))):
            return REACT.read(text, tools) if self.opening == _LABEL else ()
        try:
            found = self._values(rest)
        except (ValueError, RecursionError) as error:
            return (Unreadable(f"the call cannot be read ({error}); write {self._form()}"),)
        return tuple(self._call(value, tools) for value in found)

    def _values(self, rest: str) -> list[Any]:
        """The JSON values of a text; `ValueError` where there is anything else, or are too many."""
        values: list[Any] = []
        if len(rest) > _LONGEST:
            raise ValueError("it is too long")
        while rest:
            value, end = _DECODER.raw_decode(rest)
            values += value if isinstance(value, list) else [value]
            rest = _BETWEEN.sub("", rest[end:].strip().removeprefix(self.closing).strip(), count=1)
            rest = rest.removeprefix(self.opening.strip()).strip()
        if not 0 < len(values) <= _MOST_CALLS:
            raise ValueError(f"there are {len(values)} calls and not 1 to {_MOST_CALLS}")
        return values

    def _call(self, value: Any, tools: Schemas) -> Call | Unreadable:
        name = value.get("name") if isinstance(value, dict) else None
        if not isinstance(name, str):
            return Unreadable(f"a call is {self._form()}")
        if name not in tools:
            return Unreadable(f"there is no tool {name[:80]!r}")
        arguments = value.get(self.key, {})
        if not isinstance(arguments, dict):
            return Unreadable(f"{self.key!r} of {name} is no object")
        return _called(name, arguments, tools[name])

    def _form(self) -> str:
        return f'{{"name": …, "{self.key}": {{…}}}}'


def one_text(schema: Mapping[str, Any]) -> str | None:
    """The name of the only thing that a tool takes, if that is a text."""
    properties = schema.get("properties", {})
    name = next(iter(properties)) if len(properties) == 1 else None
    return name if name is not None and properties[name].get("type") == "string" else None


def _called(name: str, arguments: dict[str, Any], schema: Mapping[str, Any]) -> Call | Unreadable:
    """A call whose argument is the text that the tool takes, or a JSON object of all that it takes."""
    only = one_text(schema)
    if only is None:
        return Call(name, json.dumps(arguments, ensure_ascii=False, sort_keys=True))
    text = arguments.get(only)
    if len(arguments) != 1 or not isinstance(text, str):
        return Unreadable(f"{name} takes {only!r} alone, a text")
    return Call(name, text.strip())


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


REACT = ReAct()
_DECODER = json.JSONDecoder(parse_constant=_refuse)
_BETWEEN = re.compile(r"^[;,]\s*")
