"""What a search found, in the words of both interfaces."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel

from rlm_agent.serve.searching import Found
from rlm_agent.structure.budget import Usage, add_usage, no_usage

Reason = Literal["stop", "length"]


class SearchReport(BaseModel):
    """What OpenAI's interface has no field for: how the search for a choice went."""

    seed: int
    stopped: str
    verified: bool | None
    thoughts: int
    model_calls: int
    seconds: float


def reason_of(found: Found) -> Reason:
    """Why a reply ends: without an answer, something was used up."""
    return "length" if found.answer is None else "stop"


def report_of(found: Found) -> SearchReport:
    """How a search went."""
    usage = found.usage
    return SearchReport(
        seed=found.seed,
        stopped=found.stopped,
        verified=found.verified,
        thoughts=usage["nodes"],
        model_calls=usage["model_calls"],
        seconds=usage["seconds"],
    )


def total(found: Sequence[Found]) -> Usage:
    """What several searches took."""
    spent = no_usage()
    for each in found:
        spent = add_usage(spent, each.usage)
    return spent
