"""The box of tools that a strategy may use."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rlm_agent.structure.errors import InputError, UnknownNameError
from rlm_agent.structure.ids import fingerprint
from rlm_agent.tools.actions import FINISH, NAME
from rlm_agent.tools.approval import Gate
from rlm_agent.tools.calling import Limits
from rlm_agent.tools.protocols import Tool, parameters_of
from rlm_agent.tools.syntax import REACT, Asked, Schemas, Syntax
from rlm_agent.tools.wrapping import Wrappable, as_tool


@dataclass(frozen=True, slots=True)
class Toolbox:
    """The tools that a strategy may use, each by its name, and the limits of each call.

    tools: tools, LangChain's tools, and callables of one text; see `as_tool`.
    syntax: how the policy writes its calls; None leaves it to the policy.
    gate: who approves calls before they are made; None for nobody, see `operators.act`.

    Raises `InputError` for what is no tool, for a name that no model could call, and for two tools of one
    name.
    """

    tools: Sequence[Wrappable]
    limits: Limits = field(default_factory=Limits)
    syntax: Syntax | None = None
    gate: Gate | None = None
    _named: dict[str, Tool] = field(init=False, repr=False, compare=False)
    schemas: Schemas = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        named: dict[str, Tool] = {}
        for tool in map(as_tool, self.tools):
            if not NAME.fullmatch(tool.name) or tool.name.lower() == FINISH:
                raise InputError(
                    f"no model could call a tool {tool.name!r}; name it in letters, digits, _ and -, "
                    "and not finish"
                )
            if tool.name in named:
                raise InputError(f"two tools are named {tool.name!r}; rename one")
            named[tool.name] = tool
        object.__setattr__(self, "_named", named)
        object.__setattr__(self, "schemas", {name: parameters_of(tool) for name, tool in named.items()})

    def __contains__(self, name: object) -> bool:
        return name in self._named

    def __iter__(self) -> Iterator[str]:
        return iter(self._named)

    def __len__(self) -> int:
        return len(self._named)

    def __getitem__(self, name: str) -> Tool:
        if name not in self._named:
            raise UnknownNameError(f"there is no tool {name!r}; choose one of {', '.join(self)}")
        return self._named[name]

    @property
    def written(self) -> Syntax:
        """How calls are written."""
        return self.syntax or REACT

    def asked(self, text: str) -> Asked:
        """What a step calls."""
        return self.written.read(text, self.schemas)

    @property
    def described(self) -> str:
        """The tools as a model is told of them, one a line."""
        lines = (
            self.written.described(name, tool.description, self.schemas[name])
            for name, tool in self._named.items()
        )
        return "\n".join(lines)

    @property
    def identity(self) -> str:
        """What tells one box from another; stored with a run."""
        effects = [tool.idempotent for tool in self._named.values()]
        gate = self.gate.identity if self.gate is not None else ""
        return fingerprint(self.described, effects, self.limits, self.written.identity, gate)
