"""Server-sent events, of bounded size. httpx-sse reads lines without an end to their length, hence not it."""

from collections.abc import AsyncGenerator

import httpx

from rlm_agent.models.remote.faults import Fleeting

_DONE = "[DONE]"


async def data_of(response: httpx.Response, most: int) -> AsyncGenerator[str]:
    """The data of each event, up to OpenAI's mark of the end; `Fleeting` beyond `most` bytes.

    Comments and other fields are passed over (HTML standard, 9.2); an event that was broken off is dropped.
    """
    held, lines, size = b"", list[str](), 0
    async for piece in response.aiter_raw():
        size += len(piece)
        if size > most:
            raise Fleeting(f"a stream of more than {most} bytes")
        *whole, held = (held + piece).split(b"\n")
        for raw in whole:
            line = raw.rstrip(b"\r").decode(errors="replace")
            if line.startswith("data:"):
                lines.append(line[5:].removeprefix(" "))
            elif not line and lines:
                data, lines = "\n".join(lines), []
                if data == _DONE:
                    return
                yield data
