"""Calls of tools: what the grammars force, and what is read from a model's text."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.models.gguf.sampling.grammar import Grammar
from rlm_agent.models.gguf.sampling.schemas import json_grammar
from rlm_agent.models.gguf.toolcalls import (
    HERMES,
    LLAMA,
    MISTRAL,
    Style,
    Tool,
    call_grammar,
    check_tools,
    detect_style,
    parse_calls,
)
from rlm_agent.models.protocols import Decoding, Message, Request
from rlm_agent.structure.errors import GrammarError

STYLES = (HERMES, LLAMA, MISTRAL)
QUESTION = (Message(role="user", content="?"),)
PHASES = (Phase.explicit, Phase.generate)  # to shrink an example takes minutes
Write = Callable[..., str]


@pytest.fixture(scope="module")
def policy(make_model: Callable[..., Path]) -> Iterator[GGUFPolicy]:
    policy = GGUFPolicy(make_model(context=1024))
    yield policy
    policy.close()


@pytest.fixture(scope="module")
def write(policy: GGUFPolicy) -> Write:
    """What the random model writes after a grammar, to its end.

    Its control tokens are held back: a grammar takes them for their names, and they leave no text.
    """
    file = policy.file
    mute = (token for token in range(file.size) if not file.piece(token) and not file.ends(token))
    bias = tuple((token, -math.inf) for token in mute)

    def write(grammar: str, seed: int = 0, max_tokens: int = 900) -> str:
        decoding = Decoding(logit_bias=bias, grammar=grammar)
        (completion,) = policy.generate([Request(QUESTION, "", max_tokens, seed, decoding=decoding)])
        assert completion.finish == "end", completion
        return completion.text

    return write


def follows(policy: GGUFPolicy, grammar: str | None, text: str) -> bool:
    """Whether the grammar takes the text, letter by letter, and the end after it."""
    assert grammar is not None
    running, file = Grammar(policy.file, grammar), policy.file
    byte = {file.piece(token): token for token in range(file.size)}
    for value in text.encode():
        token = byte[bytes([value])]
        if not running.allows(token):
            return False
        running.accept(token)
    return running.allows(next(token for token in range(file.size) if file.ends(token)))


def tool(name: str = "get_weather", schema: dict[str, Any] | None = None) -> Tool:
    properties = {"city": {"type": "string", "maxLength": 9}, "days": {"type": "integer"}}
    schema = schema or {"type": "object", "properties": properties, "required": ["city", "days"]}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


def satisfies(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value is what a schema of `schemas` says."""
    if "anyOf" in schema:
        return any(satisfies(value, each) for each in schema["anyOf"])
    if "enum" in schema:
        return value in schema["enum"]
    kind = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "array": list}
    match schema["type"]:
        case "object":
            allowed, required = schema["properties"], schema["required"]
            return (
                isinstance(value, dict)
                and set(required) <= set(value) <= set(allowed)
                and all(satisfies(each, allowed[key]) for key, each in value.items())
            )
        case "array":
            right = isinstance(value, list) and schema["minItems"] <= len(value) <= schema["maxItems"]
            return right and all(satisfies(each, schema["items"]) for each in value)
        case "string":
            if not isinstance(value, str):
                return False
            # llama.cpp counts the bytes of a malformed letter as one letter; decoded they may be several.
            return "\ufffd" in value or schema["minLength"] <= len(value) <= schema["maxLength"]
        case "number":
            return isinstance(value, int | float) and math.isfinite(value)
        case name:
            return isinstance(value, kind[name]) and (name == "boolean" or not isinstance(value, bool))  # type: ignore[arg-type]


WORDS = st.text(st.characters(exclude_categories=()), max_size=6) | st.sampled_from(
    ["a\nb", 'say "x"', "\\", "\\n", "é", "\U0001f600", "string", "root", "<tool_call>", '" | root "', "\x00"]
)


def lengths(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(st.integers(0, 2), st.integers(0, 2)).map(
        lambda pair: {f"min{kind}": pair[0], f"max{kind}": sum(pair)}
    )


def objects(inner: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    def build(pair: tuple[dict[str, Any], int]) -> dict[str, Any]:
        properties, needed = pair
        return {"type": "object", "properties": properties, "required": list(properties)[:needed]}

    return st.tuples(st.dictionaries(WORDS, inner, max_size=3), st.integers(0, 3)).map(build)


LEAVES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.sampled_from(["integer", "number", "boolean"]).map(lambda kind: {"type": kind}),
    lengths("Length").map(lambda bounds: {"type": "string", **bounds}),
    st.lists(WORDS | st.integers(-9, 9) | st.none(), min_size=1, max_size=3).map(lambda all_: {"enum": all_}),
)
SCHEMAS = objects(
    st.recursive(
        LEAVES,
        lambda inner: st.one_of(
            objects(inner),
            st.tuples(inner, lengths("Items")).map(lambda p: {"type": "array", "items": p[0], **p[1]}),
            st.lists(inner, min_size=1, max_size=2).map(lambda all_: {"anyOf": all_}),
        ),
        max_leaves=3,
    )
)


@settings(max_examples=25, phases=PHASES, suppress_health_check=list(HealthCheck), deadline=None)
@given(
    schemas=st.lists(SCHEMAS, min_size=1, max_size=2), style=st.sampled_from(STYLES), seed=st.integers(0, 99)
)
def test_forced_call_parses_and_satisfies_its_schema(
    write: Write, schemas: list[dict[str, Any]], style: Style, seed: int
) -> None:
    tools = [tool(f"tool_{i}", schema) for i, schema in enumerate(schemas)]
    grammar = call_grammar(tools, choice="required", style=style)
    assert grammar is not None
    content, calls, unread = parse_calls(write(grammar, seed), style, tools=tools, seed=seed)
    (call,) = calls
    assert (content, unread) == ("", ())
    assert satisfies(call["function"]["arguments"], schemas[int(call["function"]["name"][-1])])


@settings(max_examples=15, phases=PHASES, suppress_health_check=list(HealthCheck), deadline=None)
@given(schema=SCHEMAS, seed=st.integers(0, 99))
def test_json_output_satisfies_its_schema(write: Write, schema: dict[str, Any], seed: int) -> None:
    assert satisfies(json.loads(write(json_grammar(schema), seed)), schema)


def test_without_a_schema_any_object_is_json_output(policy: GGUFPolicy) -> None:
    grammar = json_grammar()
    assert follows(policy, grammar, '{"a": [1, {"b": null}], "c": "d"}')
    for wrong in ("[1]", '{"a": "\n"}', '{"a": 1e999}', '"a"'):
        assert not follows(policy, grammar, wrong)


def test_property_without_a_type_may_be_anything(policy: GGUFPolicy) -> None:
    schema = {"type": "object", "properties": {"x": {"title": "X"}}, "required": ["x"]}
    values: list[Any] = [1, "a", None, [{}]]
    assert all(follows(policy, json_grammar(schema), json.dumps({"x": value})) for value in values)


def test_schema_as_pydantic_writes_it_is_followed(policy: GGUFPolicy) -> None:
    color = {"$defs": {"Color": {"enum": ["red", "blue"], "title": "Color", "type": "string"}}}
    one = {"allOf": [{"$ref": "#/$defs/Color"}], "default": "red", "description": "A colour."}
    schema = {**color, "type": "object", "properties": {"color": one}, "required": ["color"]}
    grammar = call_grammar([tool(schema=schema), tool("other", schema)], choice="required")
    call = '<tool_call>\n{"name": "other", "arguments": {"color": "%s"}}\n</tool_call>'
    assert follows(policy, grammar, call % "blue")
    assert not follows(policy, grammar, call % "green")


def test_names_of_properties_are_not_taken_for_rules(policy: GGUFPolicy) -> None:
    schema: dict[str, Any] = {
        "$defs": {"City": {"enum": ["Rome"]}},
        "type": "object",
        "properties": {
            "City": {"type": "integer"},
            "": {"$ref": "#/$defs/City"},
            "*": {"type": "null"},
            "root": {"type": "boolean"},
        },
        "required": ["City", "", "*", "root"],
    }
    assert follows(policy, json_grammar(schema), '{"City": 1, "": "Rome", "*": null, "root": true}')
    assert not follows(policy, json_grammar(schema), '{"City": 1, "": 1, "*": null, "root": true}')


@pytest.mark.parametrize("pattern", ["^.*$", "^[^a]*$", '^"*$', "^\\d+$"])
def test_pattern_by_which_a_string_could_end_early_is_left_out(policy: GGUFPolicy, pattern: str) -> None:
    schema = {
        "type": "object",
        "properties": {"x": {"type": "string", "pattern": pattern}},
        "required": ["x"],
    }
    assert follows(policy, json_grammar(schema), '{"x": "abc"}')
    assert not follows(policy, json_grammar(schema), '{"x": """}')


def test_harmless_pattern_is_followed(policy: GGUFPolicy) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "string", "pattern": "^[a-c]{2}$"}}}
    assert follows(policy, json_grammar(schema), '{"x": "ab"}')
    assert not follows(policy, json_grammar(schema), '{"x": "ad"}')


CALLS = {
    "hermes": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome", "days": 1}}\n</tool_call>',
    "llama": '{"name": "get_weather", "parameters": {"city": "Rome", "days": 1}}',
    "mistral": '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Rome", "days": 1}}]',
}


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_auto_takes_text_or_a_well_formed_call(policy: GGUFPolicy, style: Style) -> None:
    grammar, call = call_grammar([tool()], style=style), CALLS[style.name]
    for right in ("", "It is warm.", "a < b [1] << 2 <tool", "x " + style.opening[:-1] + " y", call):
        assert follows(policy, grammar, right), right
    assert follows(policy, grammar, f"Let me see. {style.opening if style.bare else ''}{call}") or style.bare
    assert follows(policy, grammar, f"See. {style.opening}{call}") == style.bare
    for wrong in (
        call[:-2],
        call.replace("get_", "set_"),
        call.replace("1", '"1"'),
        f"x{style.opening[0]}{style.opening} y",
    ):
        assert not follows(policy, grammar, wrong), wrong


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_required_takes_calls_alone(policy: GGUFPolicy, style: Style) -> None:
    grammar = call_grammar([tool()], choice="required", style=style)
    assert follows(policy, grammar, CALLS[style.name])
    assert not follows(policy, grammar, "It is warm.")
    assert not follows(policy, grammar, "")


@pytest.mark.parametrize("seed", range(3))
def test_named_tool_is_the_one_that_is_called(write: Write, seed: int) -> None:
    tools = [tool(name) for name in ("a", "b", "c")]
    grammar = call_grammar(tools, choice="b")
    assert grammar is not None
    (call,) = parse_calls(write(grammar, seed), tools=tools).calls
    assert call["function"]["name"] == "b"


def test_none_forces_nothing() -> None:
    assert call_grammar([tool()], choice="none") is None
    assert call_grammar([]) is None


@pytest.mark.parametrize("choice", ["required", "unheard_of"])
def test_choice_that_no_tool_answers_is_refused(choice: str) -> None:
    with pytest.raises(GrammarError, match="no tool answers"):
        call_grammar([tool()] if choice != "required" else [], choice=choice)


@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.name)
def test_several_calls_only_where_they_may_be_parallel(policy: GGUFPolicy, style: Style) -> None:
    one = CALLS[style.name]
    two = {"hermes": f"{one}\n{one}", "llama": f"{one}; {one}", "mistral": f"{one[:-1]}, {one[13:]}"}[
        style.name
    ]
    assert follows(policy, call_grammar([tool()], parallel=True, style=style), two)
    assert not follows(policy, call_grammar([tool()], choice="required", style=style), two)
    content, calls, unread = parse_calls(two, style, tools=[tool()])
    assert (content, len(calls), unread) == ("", 2, ())


@pytest.mark.parametrize(
    ("text", "content", "cities", "errors"),
    [
        ("just text", "just text", [], 0),
        (' {"name": "get_weather", "arguments": {}} ', ' {"name": "get_weather", "arguments": {}} ', [], 0),
        (
            'Yes.\n<tool_call>{"name":"get_weather","arguments":{"city":"A"}}</tool_call>\nDone.',
            "Yes.\n\nDone.",
            ["A"],
            0,
        ),
        ('<tool_call>{"name":"get_weather","arguments":{"city":"A"}}', "", ["A"], 0),
        ('<tool_call>{"name":"get_weather","arguments":"{\\"city\\":\\"A\\"}"}', "", ["A"], 0),
        ('<tool_call>{"name":"get_weather","arguments":{"city":"a\nb"}}</tool_call>', "", ["a\nb"], 0),
        ('<tool_call>{"name": "get_wea', '<tool_call>{"name": "get_wea', [], 1),
        (
            '<tool_call>{"name":"rm","arguments":{}}</tool_call>',
            '<tool_call>{"name":"rm","arguments":{}}</tool_call>',
            [],
            1,
        ),
        (
            """<tool_call>{'x'}</tool_call> <tool_call>{"name":"get_weather","arguments":{"city":"B"}}""",
            "<tool_call>{'x'}</tool_call>",
            ["B"],
            1,
        ),
        (
            '<tool_call>{"name":"get_weather","arguments":[1]}',
            '<tool_call>{"name":"get_weather","arguments":[1]}',
            [],
            1,
        ),
        (
            '<tool_call>{"name":"get_weather","arguments":{"city":NaN}}',
            '<tool_call>{"name":"get_weather","arguments":{"city":NaN}}',
            [],
            1,
        ),
        (
            '<tool_call>{"name":"get_weather","arguments":{"city":1e999}}',
            '<tool_call>{"name":"get_weather","arguments":{"city":1e999}}',
            [],
            1,
        ),
        ("<tool_call>" + "[" * 100_000, "<tool_call>" + "[" * 100_000, [], 1),
        ("<tool_call>", "<tool_call>", [], 1),
    ],
)
def test_what_is_no_call_stays_text_and_is_reported(
    text: str, content: str, cities: list[str], errors: int
) -> None:
    parsed = parse_calls(text, tools=[tool()])
    assert parsed.content == content
    assert [call["function"]["arguments"]["city"] for call in parsed.calls] == cities
    assert len(parsed.unread) == errors


def test_unreadable_entry_of_a_list_spares_the_others() -> None:
    text = '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "A"}}, {"name": "rm"}] ok'
    content, calls, unread = parse_calls(text, MISTRAL, tools=[tool()])
    assert content == '{"name": "rm"} ok'
    assert [call["function"]["arguments"] for call in calls] == [{"city": "A"}]
    assert "no tool 'rm'" in unread[0].error


def test_opening_that_leaves_no_text_is_not_missed() -> None:
    silent = replace(HERMES, silent=True)
    content, calls, _ = parse_calls(CALLS["hermes"].replace("<tool_call>\n", ""), silent, tools=[tool()])
    assert (content, len(calls)) == ("", 1)
    answer = '{"temperature": 4}'
    assert parse_calls(answer, silent, tools=[tool()]) == (answer, (), ())


def test_many_openings_are_read_in_little_time() -> None:
    assert len(parse_calls('<tool_call>{"' * 100_000).unread) == 64


def test_ids_follow_from_seed_and_index() -> None:
    text = CALLS["hermes"] * 2
    first, again, other = (parse_calls(text, seed=seed).calls for seed in (1, 1, 2))
    assert first == again
    assert len({call["id"] for call in first + other}) == 4
    assert all(len(call["id"]) == 9 and call["id"].isalnum() for call in first)


def test_style_is_the_one_that_a_template_shows() -> None:
    assert detect_style("x <tool_call> [TOOL_CALLS]") is HERMES
    assert detect_style("[TOOL_CALLS]") is MISTRAL
    assert detect_style('{"name": n, "parameters": p}') is LLAMA
    assert detect_style("{{ messages }}") is HERMES


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return {"type": "object", "properties": {"x": schema}}


def wide(count: int) -> dict[str, Any]:
    return {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(count)}}


def lists(bound: int, count: int) -> dict[str, Any]:
    item = {"type": "array", "items": {"type": "integer"}, "maxItems": bound}
    return {"type": "object", "properties": {f"p{i}": item for i in range(count)}}


@pytest.mark.parametrize(
    ("tools", "reason"),
    [
        ([tool(f"t{i}") for i in range(129)], "129 tools"),
        ([tool("a"), tool("a")], "two tools"),
        ([tool('a"b')], "cannot name"),
        ([tool("")], "cannot name"),
        ([tool("a" * 65)], "cannot name"),
        ([tool(schema=nested(40))], "nest"),
        ([tool(schema=nested(100_000))], "nest"),
        ([tool(schema=wide(401))], "nest"),
        ([tool(schema=lists(200, 101))], "lengths"),
        ([tool(schema={"type": "object", "description": "x" * 100_000})], "shorten"),
        ([tool(schema={"const": object()})], "not JSON"),
        ([tool(schema={"const": math.inf})], "not JSON"),
        ([tool(schema={"type": "unheard of"})], "simpler"),
        ([tool(schema={"$ref": "https://example.com/a.json"})], "simpler"),
    ],
)
def test_tools_that_ask_too_much_are_refused(tools: list[Tool], reason: str) -> None:
    with pytest.raises(GrammarError, match=reason):
        call_grammar(tools)


def test_largest_tools_that_are_let_through_compile(policy: GGUFPolicy) -> None:
    check_tools([tool(f"t{i}") for i in range(128)])
    assert follows(policy, call_grammar([tool(f"t{i}") for i in range(40)]), "text")
