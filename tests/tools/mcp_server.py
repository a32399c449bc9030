"""A small MCP server over stdio, for the tests: it adds, notes down, draws, fails and hangs."""

import sys
import time
from pathlib import Path

from mcp.server.fastmcp import FastMCP, Image
from mcp.types import ToolAnnotations

server = FastMCP("tests")
ONLY_READS = ToolAnnotations(readOnlyHint=True)


@server.tool(annotations=ONLY_READS)
def add(first: int, second: int = 1) -> int:
    """Adds two numbers."""
    return first + second


@server.tool(annotations=ONLY_READS)
def upper(text: str) -> str:
    """Says it louder."""
    return text.upper()


@server.tool()
def note(text: str) -> str:
    """Notes it down."""
    with Path(sys.argv[1]).open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")
    return "noted"


@server.tool(annotations=ONLY_READS)
def draw() -> Image:
    """Draws a dot."""
    return Image(data=b"\x89PNG", format="png")


@server.tool(annotations=ONLY_READS)
def fail(text: str) -> str:
    """Fails."""
    raise ValueError(f"no {text}")


@server.tool(annotations=ONLY_READS)
def flood(text: str) -> str:
    """Says far too much."""
    return text * 10**6


@server.tool(annotations=ONLY_READS)
def hang(text: str) -> str:
    """Hangs."""
    time.sleep(60)
    return text


if __name__ == "__main__":
    server.run()
