"""Grammars over the embedded model's own vocabulary."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlm_agent.models.gguf.file import ModelFile
from rlm_agent.models.gguf.sampling.draw import Draw, draw, uniforms
from rlm_agent.models.gguf.sampling.grammar import Grammar
from rlm_agent.models.gguf.sampling.schemas import json_grammar
from rlm_agent.models.protocols import Decoding
from rlm_agent.structure.errors import GrammarError

MINI = Path(__file__).parents[2] / "rlm_agent" / "models" / "weights" / "mini.gguf"
YES_NO = 'root ::= "yes" | "no"'


@pytest.fixture(scope="module")
def file() -> Iterator[ModelFile]:
    opened = ModelFile(MINI)
    yield opened
    opened.close()


def one(file: ModelFile, text: str) -> int:
    (token,) = file.tokenize(text)
    return token


def end(file: ModelFile) -> int:
    return next(token for token in range(file.size) if file.ends(token))


def byte(file: ModelFile, value: int) -> int:
    return next(token for token in range(file.size) if file.piece(token) == bytes([value]))


def follow(grammar: Grammar, file: ModelFile, text: str) -> bool:
    """Whether the grammar takes the text, byte for byte, and the end after it."""
    for value in text.encode():
        token = byte(file, value)
        if not grammar.allows(token):
            return False
        grammar.accept(token)
    return grammar.allows(end(file))


def test_end_is_allowed_exactly_when_the_text_is_complete(file: ModelFile) -> None:
    grammar = Grammar(file, YES_NO)
    for letter in "no":
        assert not grammar.allows(end(file))
        grammar.accept(one(file, letter))
    assert grammar.allows(end(file))
    assert not grammar.allows(one(file, "n"))


def test_mask_agrees_with_asking_for_each_token(file: ModelFile) -> None:
    grammar = Grammar(file, 'root ::= [a-z0-9 ]* "."')
    logits = np.zeros(file.size, dtype=np.float32)
    logits[7] = -np.inf
    masked = grammar.mask(logits)
    assert [v == 0 for v in masked] == [grammar.allows(t) and t != 7 for t in range(file.size)]
    assert not grammar.allows(-1)
    assert not grammar.allows(file.size)


def test_copy_goes_its_own_way(file: ModelFile) -> None:
    grammar = Grammar(file, YES_NO)
    twin = grammar.copy()
    twin.accept(one(file, "y"))
    twin.close()
    assert grammar.allows(one(file, "n"))


def test_forbidden_token_is_an_error_and_changes_nothing(file: ModelFile) -> None:
    grammar = Grammar(file, YES_NO)
    with pytest.raises(GrammarError, match="forbids token"):
        grammar.accept(one(file, "x"))
    assert follow(grammar, file, "yes")


def test_letter_may_be_spelled_by_its_bytes(file: ModelFile) -> None:
    grammar = Grammar(file, 'root ::= "é"')
    first, second = (byte(file, value) for value in "é".encode())
    assert not grammar.allows(second)
    grammar.accept(first)
    assert not grammar.allows(end(file))
    assert not grammar.allows(one(file, "e"))
    grammar.accept(second)
    assert grammar.allows(end(file))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no rule"),
        ("   \n", "no rule"),
        ('x ::= "a"', "no rule"),
        ("@@##", "no rule"),
        ("root ::= foo", "Undefined rule"),
        ('root ::= "a', "does not compile"),
        ('root ::= "a" \0', "zero byte"),
        ('root ::= root "a"', "begins with itself"),
        ('root ::= x\nx ::= y\ny ::= x "a" | "b"', "begins with itself"),
        ("root ::= " + "(" * 200_000 + '"a"' + ")" * 200_000, "shorten"),
        ("root ::= " + "(" * 20_000 + '"a"' + ")" * 20_000, "nests"),
        ('root ::= "a"{1,100000}', "repeats"),
        ('root ::= "a"{1,99999999999999999999999}', "repeats"),
        ('root ::= "a"{5,2}', "repeats"),
        ('root ::= "' + "a" * 50_000 + '"{2000}', "copy"),
        ('root ::= "a"{1999}{1999}', "does not compile"),
    ],
)
def test_bad_grammar_is_an_error_and_prints_nothing(
    file: ModelFile, text: str, reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(GrammarError, match=reason):
        Grammar(file, text)
    assert capfd.readouterr() == ("", "")


def test_deepest_grammar_that_is_let_through_compiles(file: ModelFile) -> None:
    assert follow(Grammar(file, "root ::= " + "(" * 500 + '"a"' + ")" * 500), file, "a")
    assert follow(Grammar(file, 'root ::= "a"{0,2000}'), file, "a" * 30)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_draws_follow_the_masked_distribution(file: ModelFile, temperature: float) -> None:
    logits = np.random.default_rng(0).standard_normal(file.size).astype(np.float32) * 2
    grammar = Grammar(file, "root ::= [a-j]")
    allowed = [token for token in range(file.size) if grammar.allows(token)]
    numbers, count = uniforms(3, 8000).reshape(2, -1), 4000
    draws = [Draw(Decoding(temperature), float(n), float(m), grammar=grammar) for n, m in numbers.T]
    drawn = draw(np.tile(logits, (count, 1)), draws)
    assert set(drawn.tokens.tolist()) <= set(allowed)
    assert ((drawn.rest >= 0) & (drawn.rest < 1)).all()
    weights = np.exp(logits[allowed].astype(np.float64))
    found = np.array([(drawn.tokens == token).sum() for token in allowed])
    if temperature:
        wanted = count * weights / weights.sum()
        assert ((found - wanted) ** 2 / wanted).sum() < len(allowed) + 5 * math.sqrt(2 * len(allowed))
    else:
        assert found[weights.argmax()] == count


def test_grammar_that_is_stuck_gives_no_token_and_spares_the_others(file: ModelFile) -> None:
    stuck = Grammar(file, 'root ::= "a"')
    logits = np.zeros((2, file.size), dtype=np.float32)
    logits[0, :] = -np.inf
    logits[0, one(file, "b")] = 0.0
    drawn = draw(logits, [Draw(Decoding(), 0.5, grammar=stuck), Draw(Decoding(), 0.5)])
    assert drawn.tokens.tolist() == [-1, draw(logits[1:], [Draw(Decoding(), 0.5)]).tokens[0]]
    assert drawn.logprobs[0] == -np.inf


def test_json_schema_becomes_a_grammar(file: ModelFile) -> None:
    properties = {"name": {"type": "string", "maxLength": 5}, "age": {"type": "integer"}}
    schema: dict[str, Any] = {"type": "object", "properties": properties, "required": ["name", "age"]}
    text = json_grammar(schema)
    assert follow(Grammar(file, text), file, '{"name": "Eve", "age": 4}')
    assert not follow(Grammar(file, text), file, '{"name": "Eve"}')
    assert not follow(Grammar(file, text), file, '{"name": 4}')


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "unheard of"},
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "#/nowhere"},
        {"type": "array", "items": {"type": "integer"}, "minItems": 10**9},
        {"type": "string", "pattern": "^a{1,99999999}$"},
        {"type": "array", "items": {"type": "string", "maxLength": 900}, "minItems": 10**5},
    ],
)
def test_schema_that_cannot_be_converted_is_an_error(schema: Any) -> None:
    with pytest.raises(GrammarError, match=r"simpler|lower its bounds"):
        json_grammar(schema)
