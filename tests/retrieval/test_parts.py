"""What is read of each kind of document, and what bad ones are told."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm_agent.retrieval.parts import READERS, Part, headed, read_parts
from rlm_agent.retrieval.splitting import Cutting, cut
from rlm_agent.structure.errors import DocumentError, InputError
from tests.retrieval.pdfs import pdf

MARKDOWN = """Before.

# One

Text.

## Two #

```python
# no heading
    indented
```

# Three
"""


def test_markdown_keeps_headings_and_code() -> None:
    parts = read_parts(MARKDOWN.encode(), ".md")
    assert [(part.place, part.metadata) for part in parts] == [
        ("", {}),
        ("One", {"headings": ["One"]}),
        ("One > Two", {"headings": ["One", "Two"]}),
        ("Three", {"headings": ["Three"]}),
    ]
    assert "# no heading\n    indented\n" in parts[2].text


@given(st.lists(st.sampled_from(["# a", "## b", "### ", "```", "~~~~", "text", "", "    # code", "#no"])))
def test_sections_of_markdown_are_its_lines(lines: list[str]) -> None:
    sections = [part.text for part in headed("\n".join(lines))]
    assert "\n".join(sections).lstrip("\n") == "\n".join(lines).lstrip("\n")


def test_html_is_text_under_headings_without_scripts() -> None:
    page = b"""<html><head><title>A  page</title><style>p {}</style></head><body><script>alert(1)</script>
    <!-- hidden --><h1>Top</h1><p>One <b>bold</b>
    word.</p><ul><li>first<li>second</ul><h2>Sub</h2><table><tr><td>a</td><td>b</td></tr></table>"""
    parts = read_parts(page, ".html")
    assert [(part.place, part.metadata["title"]) for part in parts] == [
        ("", "A page"),
        ("Top", "A page"),
        ("Top > Sub", "A page"),
    ]
    assert [part.text.split() for part in parts] == [
        ["A", "page"],
        "# Top One bold word. first second".split(),
        "## Sub a b".split(),
    ]
    assert "One bold word.\n" in parts[1].text


def test_declared_encoding_of_html_is_used() -> None:
    (part,) = read_parts('<meta charset="iso-8859-1"><p>Größe'.encode("latin-1"), ".htm")
    assert part.text == "Größe"
    (part,) = read_parts("<meta charset=nonsense><p>Größe".encode(), ".htm")
    assert part.text == "Größe"


def test_pages_of_a_pdf_are_parts() -> None:
    assert read_parts(pdf(["first page", "", "third page"]), ".pdf") == [
        Part("first page", "page 1", {"page": 1}),
        Part("third page", "page 3", {"page": 3}),
    ]


def test_rows_of_a_table_are_parts_with_their_fields() -> None:
    table = 'name,price,code\nVelk,12,007\n"Orm, big",1.50\n\n,,\nTarn,-3,x,extra\n'
    assert read_parts(table.encode(), ".csv") == [
        Part(
            "name: Velk\nprice: 12\ncode: 007",
            "row 2",
            {"row": 2, "name": "Velk", "price": 12, "code": "007"},
        ),
        Part("name: Orm, big\nprice: 1.50", "row 3", {"row": 3, "name": "Orm, big", "price": 1.5}),
        Part(
            "name: Tarn\nprice: -3\ncode: x\ncolumn 4: extra",
            "row 6",
            {"row": 6, "name": "Tarn", "price": -3, "code": "x", "column 4": "extra"},
        ),
    ]


@pytest.mark.parametrize(("mark", "suffix"), [("\t", ".tsv"), (";", ".csv"), ("|", ".csv"), ("\t", ".csv")])
def test_tables_of_other_delimiters(mark: str, suffix: str) -> None:
    (part,) = read_parts(f"a{mark}b\n1{mark}2,5\n".encode(), suffix)
    assert part.text == "a: 1\nb: 2,5"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("suffix", [".txt", ".md", ".csv", ".html", ".unknown"])
def test_marked_encodings_are_read(encoding: str, suffix: str) -> None:
    parts = read_parts("Größe\r\nzwei\rdrei\n".encode(encoding), suffix)
    assert "Größe" in parts[0].text
    assert "\r" not in parts[0].text


@pytest.mark.parametrize(
    ("data", "suffix", "message"),
    [
        (b"", ".txt", "holds no text"),
        (b" \n\t", ".md", "holds no text"),
        (b"<html><script>1</script>", ".html", "holds no text"),
        (b"a,b\n,\n", ".csv", "holds no text"),
        (b"\x7fELF\x00\x01", ".txt", "is binary; convert it"),
        (b"a,b\n1,\x00\n", ".csv", "is binary; convert it"),
        (
            "Größe".encode("latin-1"),
            ".txt",
            r"is not utf-8 \(byte 2 cannot be read\); convert it, or name its",
        ),
        ("Größe".encode("latin-1"), ".html", "is not utf-8"),
        (b"\xff\xfea", ".txt", "is not utf-8"),
        (b"a\n" + b"x" * 200_000, ".csv", "field larger than field limit"),
        (b"", ".pdf", "is no PDF that can be read"),
        (b"not a pdf", ".pdf", "is no PDF that can be read"),
        (pdf(["text"])[:300], ".pdf", "is no PDF that can be read"),
        (pdf(["", ""]), ".pdf", "has no text, perhaps as it was scanned; run it through OCR"),
        (pdf(["text"], "secret"), ".pdf", "is encrypted; store a copy without password"),
    ],
)
def test_what_cannot_be_read_says_why_and_what_to_do(data: bytes, suffix: str, message: str) -> None:
    with pytest.raises(DocumentError, match=message):
        read_parts(data, suffix)


def test_bounds_of_a_pdf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rlm_agent.retrieval.pages.MOST_PAGES", 2)
    with pytest.raises(DocumentError, match="more than 2 pages; split it"):
        read_parts(pdf(["a", "b", "c"]), ".pdf")
    monkeypatch.setattr("rlm_agent.retrieval.pages.MOST_CHARACTERS", 5)
    with pytest.raises(DocumentError, match="more than 5 characters; split it"):
        read_parts(pdf(["abc", "def"]), ".pdf")


def test_deeply_nested_html_is_read() -> None:
    (part,) = read_parts(b"<div><b>" * 20_000 + b"deep", ".html")
    assert part.text == "deep"


@pytest.mark.parametrize("suffix", sorted(READERS))
def test_noise_is_read_or_refused_and_nothing_else(suffix: str) -> None:
    noise = random.Random(suffix)
    whole = {".pdf": pdf(["some text", "more"]), ".html": b"<p>one<table><tr><td>two"}.get(
        suffix, b"# a,b\n1,2\n" * 9
    )
    for _ in range(60):
        data = bytearray(whole)
        for _ in range(noise.randrange(1, 8)):
            data[noise.randrange(len(data))] = noise.randrange(256)
        try:
            assert all(part.text.strip() for part in read_parts(bytes(data), suffix))
        except DocumentError:
            continue


def test_chunks_are_bounded_and_say_where_they_stand() -> None:
    text = "\n".join(f"line {number} of the text" for number in range(1, 101))
    pieces = cut("a.txt", text.encode(), ".txt", Cutting(size=200, overlap=20))
    assert all(len(chunk.text) <= 200 for chunk in pieces.chunks)
    assert len({chunk.id for chunk in pieces.chunks}) == len(pieces.chunks)
    for chunk in pieces.chunks:
        line = chunk.text.split("\n")[0].split()[1]
        assert chunk.source == f"a.txt, line {line}"
        assert chunk.metadata == {"document": "a.txt", "line": int(line)}
    assert {line for chunk in pieces.chunks for line in chunk.text.split("\n")} == set(text.split("\n"))


def test_chunks_keep_their_ids_when_others_come_before_them() -> None:
    cutting = Cutting(size=40, overlap=0)
    sections = [f"# {number}\n\ntext of section {number}\n" for number in range(5)]
    before = cut("a.md", "\n".join(sections).encode(), ".md", cutting)
    after = cut("a.md", "\n".join(["# new\n\nnew text\n", *sections]).encode(), ".md", cutting)
    assert before.digest != after.digest
    assert [chunk.id for chunk in before.chunks] == [chunk.id for chunk in after.chunks[1:]]
    assert cut("b.md", b"x", ".md", cutting).chunks[0].id != cut("a.md", b"x", ".md", cutting).chunks[0].id


def test_same_text_twice_in_a_document_is_two_chunks() -> None:
    pieces = cut("a.md", b"# a\nsame\n# a\nsame\n", ".md", Cutting())
    assert [chunk.text for chunk in pieces.chunks] == ["# a\nsame"] * 2
    assert len({chunk.id for chunk in pieces.chunks}) == 2


@pytest.mark.parametrize(
    ("size", "overlap", "encoding", "message"),
    [
        (0, 0, "utf-8", "cannot overlap"),
        (10, 10, "utf-8", "cannot overlap"),
        (10, 1, "no-such", "no encoding"),
    ],
)
def test_impossible_cuttings_are_refused(size: int, overlap: int, encoding: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Cutting(size, overlap, encoding)
