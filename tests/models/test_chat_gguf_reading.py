"""What is read while it is written is what is read afterwards, wherever the pieces end."""

import json
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.utils.json import parse_partial_json

from rlm_agent.models.gguf.toolcalls import HERMES, LLAMA, MISTRAL, Style, parse_calls
from rlm_agent.models.hearing import Text
from rlm_agent.models.langchain.reading import Calls, Part, Reader

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ARGUMENTS = st.dictionaries(st.text(max_size=5), VALUES, max_size=3)
CALLED = st.lists(st.tuples(st.sampled_from(["add", "get_weather"]), ARGUMENTS), min_size=1, max_size=3)
STYLES = st.sampled_from([HERMES, LLAMA, MISTRAL])


def written(style: Style, calls: Sequence[tuple[str, dict[str, object]]], *, opened: bool = True) -> str:
    """Calls in the form that the grammar of `call_grammar` forces."""
    ones = [
        f'{{"name": "{name}", "{style.arguments}": {json.dumps(arguments, ensure_ascii=False)}}}'
        for name, arguments in calls
    ]
    opening = style.opening if opened else ""
    if style.listed:
        return f"{opening}[{', '.join(ones)}]"
    if not style.closing:
        return opening + "; ".join(ones)
    return "\n".join(f"{style.opening}\n{one}\n{style.closing}" for one in ones)


def pieces(text: str, data: st.DataObject) -> list[str]:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def read(reader: Reader, parts: Sequence[str]) -> list[Part]:
    heard = [part for piece in parts for part in reader.feed(piece)]
    return [*heard, *reader.end()]


def calls_of(parts: Sequence[Part]) -> list[tuple[str | None, str]]:
    indices = sorted({part.index for part in parts if part.index is not None})
    return [
        (
            next(part.name for part in parts if part.index == index),
            "".join(part.text for part in parts if part.index == index),
        )
        for index in indices
    ]


def text_of(parts: Sequence[Part]) -> str:
    return "".join(part.text for part in parts if part.index is None)


@given(st.data(), STYLES, CALLED, st.text(alphabet="<tol_ca>[]TOLS|pyhn x\n"))
def test_calls_are_those_that_the_whole_text_holds(
    data: st.DataObject, style: Style, called: list[tuple[str, dict[str, object]]], before: str
) -> None:
    before = "" if style.opening in before + style.opening[:-1] or "{" in before else before
    text = before + written(style, called)
    parts = read(Reader("auto", style), pieces(text, data))
    white = style.bare and not before.strip()  # it may belong to a call that begins without an opening
    assert text_of(parts) == ("" if white else before)
    expected = parse_calls(text, style).calls
    assert [(name, json.loads(arguments)) for name, arguments in calls_of(parts)] == [
        (call["function"]["name"], call["function"]["arguments"]) for call in expected
    ]
    assert len(expected) == len(called)


@given(st.data(), STYLES, CALLED, st.booleans())
def test_forced_calls_are_read_with_and_without_their_opening(
    data: st.DataObject, style: Style, called: list[tuple[str, dict[str, object]]], opened: bool
) -> None:
    text = written(style, called, opened=opened or not style.bare)
    calls: Calls = "forced" if opened or not data.draw(st.booleans()) else "auto"
    reader = Reader(calls if style.bare else "forced", style)
    parts = read(reader, pieces(text, data))
    assert [(name, json.loads(text)) for name, text in calls_of(parts)] == called
    assert reader.complete == len(called)
    assert not text_of(parts)


@given(st.data(), STYLES, CALLED)
def test_arguments_that_were_broken_off_are_nothing_that_langchain_would_complete(
    data: st.DataObject, style: Style, called: list[tuple[str, dict[str, object]]]
) -> None:
    text = written(style, called)
    cut = text[: data.draw(st.integers(0, len(text)))]
    reader = Reader("forced", style)
    for number, (name, arguments) in enumerate(calls_of(read(reader, pieces(cut, data)))):
        if number < reader.complete:
            assert (name, json.loads(arguments)) == called[number]
        else:
            assert not isinstance(completed(arguments), dict)


def completed(arguments: str) -> object:
    try:
        return parse_partial_json(arguments)
    except ValueError:
        return None


@given(st.data(), st.text(), STYLES)
def test_text_without_tools_is_passed_on_as_it_is(data: st.DataObject, text: str, style: Style) -> None:
    assert text_of(read(Reader("none", style), pieces(text, data))) == text


@given(st.data(), CALLED, VALUES)
def test_first_letters_decide_between_calls_and_an_object(
    data: st.DataObject, called: list[tuple[str, dict[str, object]]], value: object
) -> None:
    """An object may hold anything that looks like a call."""
    text = json.dumps({"a": written(HERMES, called), "b": value})
    assert read_all("first", text, data) == (text, 0)
    assert read_all("first", written(HERMES, called), data) == ("", len(called))


def read_all(calls: Calls, text: str, data: st.DataObject) -> tuple[str, int]:
    reader = Reader(calls, HERMES)
    return text_of(read(reader, pieces(text, data))), reader.complete


@given(st.data(), st.text(alphabet="abé☃"), st.lists(st.text(alphabet="abé☃", min_size=1, max_size=3)))
def test_text_ends_at_the_first_stop_wherever_bytes_are_cut(
    data: st.DataObject, text: str, stops: list[str]
) -> None:
    whole = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=6)))
    reader = Text(stops)
    bounds = zip([0, *cuts], [*cuts, len(whole)], strict=True)
    heard = "".join(reader.feed(whole[start:end]) for start, end in bounds)
    found = [(at + len(stop), at) for stop in stops if (at := text.find(stop)) >= 0]
    assert heard + reader.feed(b"", final=True) == text[: min(found, default=(0, len(text)))[1]]
    assert (reader.stopped_by is not None) == bool(found)
