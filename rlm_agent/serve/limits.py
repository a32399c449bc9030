"""How much the server takes in and gives at most."""

from dataclasses import dataclass, fields

from rlm_agent.structure.errors import InputError


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what all clients do together, and on one request; all are above 0, but for `queue`.

    concurrency: searches that run at a time.
    queue: requests that wait for one of them to end; one more is sent away.
    tokens: the budget of a search whose request names none.
    max_tokens, max_seconds: the largest budget that a request may name; the latter bounds the waiting as
        well, and those that name no time.
    max_choices, max_messages, max_body: the most choices, messages and bytes of one request.
    body_seconds: in which all of its body has to come.
    keep_alive: seconds of silence after which a stream says that the search goes on.
    """

    concurrency: int = 4
    queue: int = 64
    tokens: int = 4000
    max_tokens: int = 100_000
    max_seconds: float = 120.0
    max_choices: int = 8
    max_messages: int = 256
    max_body: int = 1 << 20
    body_seconds: float = 30.0
    keep_alive: float = 5.0

    def __post_init__(self) -> None:
        for field in fields(self):
            bound, least = getattr(self, field.name), 0 if field.name == "queue" else 1e-3
            if not bound >= least:
                raise InputError(f"a limit of {bound!r} for {field.name!r} lets nobody in; give a larger one")
        if self.tokens > self.max_tokens:
            raise InputError(
                f"the usual budget of {self.tokens} tokens is larger than the largest of {self.max_tokens}; "
                "raise the latter or lower the former"
            )
