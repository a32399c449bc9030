"""Grammars of texts that are JSON after a schema, which may come from a user and is bounded here."""

import json
import re
from collections.abc import Mapping
from typing import Any

from rlm_agent.models.gguf.file import binding
from rlm_agent.structure.errors import GrammarError

WIDEST = 400
"""Entries of a list or an object in a definition."""
_DEEPEST, _LONGEST, _COPIED = 32, 100_000, 20_000
_BOUNDS = ("minItems", "maxItems", "minLength", "maxLength")
_STAND_IN = re.compile(r"\\ue000([0-9]+)\\ue001")
_PATTERN = re.compile(r"\^(?:[A-Za-z0-9 _,:;/@#%&=!<>()|?*+{}-]|\[[A-Za-z0-9 _,:;/@#%&=!<>()+-]+\])*\$")
_NOTES = frozenset(("title", "description", "default", "examples", "$schema", "$comment"))
_UNBOUNDED_SCHEMA = re.compile(
    r""""(?:min|max)(?:Items|Length)":\s*[0-9.]{4,}
    | "pattern":\s*"(?:[^"\\]|\\.)*\{\s*[0-9]*,?\s*[0-9]{4,}""",
    re.VERBOSE,
)
_FAR_REFERENCE = re.compile(r'"\$ref": "(?!#/)')


def json_grammar(schema: Mapping[str, Any] | None = None) -> str:
    """The grammar of a text that is JSON after `schema`, or any JSON object.

    llama.cpp's own converter makes it, and what that gets wrong is put right: names and constants may hold
    quotes, backslashes, line breaks and any letter; strings hold no bare control characters, and numbers are
    finite. The converter leaves out bounds of numbers and the like; a pattern by which a string could end
    early is left out, too.
    Raises `GrammarError` where the schema is too large, cannot be converted or refers to another document.
    """
    schema = {"type": "object"} if schema is None else schema
    check_json(schema, "the parts of the schema", widest=WIDEST)
    if _copied(schema) > _COPIED:
        raise GrammarError(f"the schema's lengths come to more than {_COPIED}; lower its bounds")
    kept: dict[str, int] = {}
    text = _converted(_plain_schema(schema, kept))
    text = text.replace(r'[^"\\]', r'[^"\\\x00-\x1F\x7F]').replace(
        "([eE] [-+]? integral-part)?", "([eE] [-+]? [0-9] [0-9]?)?"
    )
    inside = [_escaped(_json_inside(each)) for each in kept]
    return _STAND_IN.sub(lambda match: inside[int(match[1])], text)


def check_json(value: Any, what: str, *, widest: int = _LONGEST) -> None:
    """`GrammarError` where `value` is no JSON, or is too deep, too wide or too long for a prompt."""
    level, depth = [value], 0
    while level and len(level) <= _LONGEST:
        depth += 1
        if depth > _DEEPEST or any(len(_children(each)) > widest for each in level):
            raise GrammarError(f"{what} may nest {_DEEPEST} levels of {widest} entries; make them smaller")
        level = [child for each in level for child in _children(each)]
    try:
        length = len(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise GrammarError(f"{what} are not JSON ({error}); leave strings, numbers, lists, dicts") from error
    if length > _LONGEST:
        raise GrammarError(f"{what} have {length} characters as JSON; shorten them to {_LONGEST}")


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def literal(text: str) -> str:
    """A text as a terminal of GBNF."""
    return f'"{_escaped(text)}"'


def _converted(schema: Any) -> str:
    """What llama.cpp's converter makes of a schema; `GrammarError` where it does not know how."""
    binding()
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    try:
        text = json.dumps(schema)
        if _FAR_REFERENCE.search(text):
            raise ValueError("a $ref must begin with #/")
        if _UNBOUNDED_SCHEMA.search(text):
            raise ValueError("a bound of a length or a repetition may have three digits")
        return str(json_schema_to_gbnf(text))
    except (ArithmeticError, AssertionError, AttributeError, LookupError) as error:
        raise _unconverted(error) from error
    except (NotImplementedError, RecursionError, TypeError, ValueError) as error:
        raise _unconverted(error) from error


def _unconverted(error: Exception) -> GrammarError:
    reason = f"{type(error).__name__}: {error}"[:200]
    return GrammarError(
        f"the schema cannot be made a grammar ({reason}); write a simpler one, or GBNF itself"
    )


def _plain_schema(schema: Any, kept: dict[str, int]) -> Any:
    """A schema that the converter understands, with stand-ins for the names and constants in it.

    The converter would not escape them rightly, and would take some names for those of its own rules.
    """
    if not isinstance(schema, dict):
        return [_plain_schema(each, kept) for each in schema] if isinstance(schema, list) else schema
    one = schema.get("allOf")
    if isinstance(one, list) and len(one) == 1 and isinstance(one[0], dict):  # so pydantic writes a $ref
        return _plain_schema({**{key: schema[key] for key in schema if key != "allOf"}, **one[0]}, kept)
    plain = {key: _plain_part(key, part, kept) for key, part in schema.items() if key not in _NOTES}
    if "pattern" in plain and not _PATTERN.fullmatch(str(plain["pattern"])):
        del plain["pattern"]
    return plain or {"type": "value"}  # the converter would read {} as an object


def _plain_part(key: str, part: Any, kept: dict[str, int]) -> Any:
    if key in ("const", "enum", "required"):
        return _stand_ins(part, kept)
    if key == "properties" and isinstance(part, dict):
        return {_stand_ins(name, kept): _plain_schema(each, kept) for name, each in part.items()}
    if key in ("$defs", "definitions") and isinstance(part, dict):
        return {name: _plain_schema(each, kept) for name, each in part.items()}
    return _plain_schema(part, kept) if isinstance(part, dict | list) and part != {} else part


def _stand_ins(value: Any, kept: dict[str, int]) -> Any:
    if isinstance(value, str):
        kept[value] = at = kept.get(value, len(kept))
        return f"\ue000{at}\ue001"
    if isinstance(value, dict):
        return {_stand_ins(name, kept): _stand_ins(each, kept) for name, each in value.items()}
    return [_stand_ins(each, kept) for each in value] if isinstance(value, list) else value


def _copied(schema: Any) -> int:
    own = [schema.get(key) for key in _BOUNDS] if isinstance(schema, dict) else []
    here = sum(bound for bound in own if isinstance(bound, int) and bound > 0)
    return here + sum(_copied(child) for child in _children(schema))


def _json_inside(text: str) -> str:
    """A string as it stands between the quotes of JSON; half a surrogate pair has to be escaped there."""
    halves = any("\ud800" <= letter <= "\udfff" for letter in text)
    return json.dumps(text, ensure_ascii=halves)[1:-1]


def _escaped(text: str) -> str:
    """A text as it stands between the quotes of GBNF."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
