"""Text of PDF by pypdf and of HTML by Beautiful Soup, within bounds: it is strangers who wrote it."""

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rlm_agent.retrieval.extras import needed
from rlm_agent.structure.errors import DocumentError

MOST_PAGES = 20_000
MOST_CHARACTERS = 100_000_000

_BLOCKS = frozenset(
    """address article aside blockquote br dd div dl dt fieldset figcaption figure footer form h1 h2 h3
h4 h5 h6 header hr li main nav ol option p pre section select table tbody tfoot thead title tr ul""".split()
)
_UNSEEN = frozenset("script style noscript template svg iframe object".split())
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}


def pdf_pages(data: bytes) -> Iterator[tuple[int, str]]:
    """Numbers, from one, and texts of the pages of a PDF that have some.

    Raises `DocumentError` where it cannot be read, is encrypted, has no text, or more than 20,000 pages or
    100 million characters.
    """
    pypdf = needed("pypdf")
    characters = 0
    with _unlogged("pypdf"):
        try:
            reader = pypdf.PdfReader(io.BytesIO(data))
            if reader.is_encrypted and not reader.decrypt(""):
                raise DocumentError("is encrypted; store a copy without password")
            if len(reader.pages) > MOST_PAGES:
                raise DocumentError(f"has more than {MOST_PAGES:,} pages; split it")
            for number, page in enumerate(reader.pages, 1):
                text = page.extract_text()
                characters += len(text.strip())
                if characters > MOST_CHARACTERS:
                    raise DocumentError(f"has more than {MOST_CHARACTERS:,} characters; split it")
                # Halves of surrogate pairs come from broken font tables.
                yield number, text.encode("utf-8", "replace").decode()
        except DocumentError:
            raise
        except Exception as error:  # a parser may raise anything on a broken file
            reason = (str(error) or type(error).__name__).splitlines()[0][:200]
            raise DocumentError(f"is no PDF that can be read ({reason}); print it to a new PDF") from error
    if not characters:
        raise DocumentError("has no text, perhaps as it was scanned; run it through OCR, such as ocrmypdf")


def html_text(data: bytes, encoding: str, decode: Callable[[bytes, str], str]) -> tuple[str, str]:
    """Title and text of a page, with headings marked as in Markdown, and a line for each block."""
    soup = needed("bs4")
    declared = soup.dammit.EncodingDetector.find_declared_encoding(data, is_html=True)
    text = decode(data, declared if declared and _known(declared) else encoding)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", soup.XMLParsedAsHTMLWarning)
        page = soup.BeautifulSoup(text, "html.parser")
    title = " ".join(page.title.get_text().split()) if page.title else ""
    lines = (" ".join(line.split()) for line in "".join(_seen(page, soup.element)).split("\n"))
    return title, re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _seen(page: Any, element: Any) -> Iterator[str]:
    """The strings of a page that are seen, with a line for each block, in time linear in the page."""
    # The block that each tag belongs to, or is; None for what is not seen. Parents come before their
    # children.
    blocks: dict[int, Any] = {id(page): page}
    last = None
    for node in page.descendants:
        block = blocks[id(node.parent)]
        if isinstance(node, element.Tag):
            if block is not None and node.name in _BLOCKS:
                block = node
            blocks[id(node)] = None if node.name in _UNSEEN else block
            if node.name == "br":
                last = None
            elif node.name in ("td", "th"):
                yield " "
        elif block is not None and not isinstance(node, element.PreformattedString):  # comments and the like
            text = re.sub(r"\s+", " ", node)
            if block is not last and text != " ":
                yield f"\n{_HEADINGS.get(block.name, '')} "
                last = block
            yield text


def _known(encoding: str) -> bool:
    try:
        return bool("".encode(encoding) is not None)
    except (LookupError, ValueError):
        return False


@contextmanager
def _unlogged(name: str) -> Iterator[None]:
    """What a library logs below an error tells nobody which file it is about."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
