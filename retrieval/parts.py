"""Bytes of one document as parts of text: by pages, rows, headings, or whole."""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlm_agent.retrieval.pages import html_text, pdf_pages
from rlm_agent.structure.errors import DocumentError


@dataclass(frozen=True, slots=True)
class Part:
    """A text within a document; `place` says where, for a citation, and is empty for the whole."""

    text: str
    place: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


_BOMS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.*?)[ \t#]*")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


def read_parts(data: bytes, suffix: str, encoding: str = "utf-8") -> list[Part]:
    """The parts of a document whose name ends in `suffix`, which hold some text.

    `encoding` is that of text without a byte order mark or, in HTML, a declaration. Raises `DocumentError`,
    whose message goes on after the document's name, where there is none or it cannot be read.
    """
    parts = [part for part in READERS.get(suffix, _text)(data, encoding) if part.text.strip()]
    if not parts:
        raise DocumentError("holds no text; leave it out")
    return parts


def decode(data: bytes, encoding: str) -> str:
    """The text of bytes, with plain line ends; `DocumentError` where they are binary or badly encoded."""
    mark = next((mark for mark in _BOMS if data.startswith(mark)), None)
    if mark is None and b"\0" in data[:8192]:
        raise DocumentError("is binary; convert it to text first, or leave it out")
    try:
        text = data.decode(_BOMS[mark] if mark else encoding)
    except UnicodeDecodeError as error:
        raise DocumentError(
            f"is not {encoding} (byte {error.start:,} cannot be read); convert it, or name its encoding"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def headed(text: str) -> Iterator[Part]:
    """The sections of a Markdown text, each with the headings above it, outermost first.

    Not langchain-text-splitters' own: one of its two splitters strips the indentation of code, the other
    drops what follows a fence that is not closed.
    """
    above: list[tuple[int, str]] = []
    lines: list[str] = []
    fence = ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if mark and (not fence or mark[1].startswith(fence)):
            fence = "" if fence else mark[1]
        heading = None if fence else _HEADING.fullmatch(line)
        if heading:
            yield _section(lines, above)
            lines = []
            above = [one for one in above if one[0] < len(heading[1])] + [(len(heading[1]), heading[2])]
        lines.append(line)
    yield _section(lines, above)


def _section(lines: Sequence[str], above: Sequence[tuple[int, str]]) -> Part:
    headings = [title for _, title in above if title]
    return Part("\n".join(lines), " > ".join(headings), {"headings": headings} if headings else {})


def _text(data: bytes, encoding: str) -> Iterator[Part]:
    yield Part(decode(data, encoding))


def _markdown(data: bytes, encoding: str) -> Iterator[Part]:
    return headed(decode(data, encoding))


def _html(data: bytes, encoding: str) -> Iterator[Part]:
    title, text = html_text(data, encoding, decode)
    for part in headed(text):
        yield Part(part.text, part.place, {**part.metadata, **({"title": title} if title else {})})


def _pdf(data: bytes, encoding: str) -> Iterator[Part]:
    for number, text in pdf_pages(data):
        yield Part(text, f"page {number}", {"page": number})


def _table(data: bytes, encoding: str, delimiter: str = "") -> Iterator[Part]:
    """A part for each row under the header, with its fields as metadata; numbers as numbers."""
    text = decode(data, encoding)
    rows = csv.reader(io.StringIO(text), delimiter=delimiter or _delimiter(text))
    try:
        header = [name.strip() or f"column {at}" for at, name in enumerate(next(rows, []), 1)]
        for number, row in enumerate(rows, 2):
            names = header + [f"column {at}" for at in range(len(header) + 1, len(row) + 1)]
            cells = {name: cell.strip() for name, cell in zip(names, row, strict=False) if cell.strip()}
            lines = "\n".join(f"{name}: {cell}" for name, cell in cells.items())
            fields = {name: _number(cell) for name, cell in cells.items()}
            yield Part(lines, f"row {number}", {"row": number, **fields})
    except csv.Error as error:
        raise DocumentError(f"is no table of comma-separated values ({error}); mend it") from error


def _tabs(data: bytes, encoding: str) -> Iterator[Part]:
    return _table(data, encoding, "\t")


def _delimiter(text: str) -> str:
    """What divides the fields of a table: whichever of the usual marks is most frequent in its first line."""
    first = text.partition("\n")[0]
    return max(",;\t|", key=first.count)


def _number(cell: str) -> int | float | str:
    """A cell as a number where it is written as one and nothing is lost by it, such as leading zeros."""
    if re.fullmatch(r"-?(0|[1-9]\d{0,14})", cell):
        return int(cell)
    return float(cell) if re.fullmatch(r"-?(0|[1-9]\d{0,14})\.\d{1,15}", cell) else cell


Reader = Callable[[bytes, str], Iterator[Part]]

READERS: Mapping[str, Reader] = {
    ".txt": _text,
    ".text": _text,
    ".md": _markdown,
    ".markdown": _markdown,
    ".html": _html,
    ".htm": _html,
    ".xhtml": _html,
    ".csv": _table,
    ".tsv": _tabs,
    ".pdf": _pdf,
}
"""How documents are read, by the ends of their names."""
