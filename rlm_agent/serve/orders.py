"""From the body of a request to the searches that it asks for."""

from collections.abc import AsyncIterator, Sequence
from functools import partial

from langchain_core.messages import BaseMessage
from starlette.requests import Request

from rlm_agent.graphs.machine.conversation import draw_seed
from rlm_agent.serve.admission import Deposit
from rlm_agent.serve.catalogue import Catalogue
from rlm_agent.serve.faults import Fault
from rlm_agent.serve.feed import Feed, unless_gone
from rlm_agent.serve.keys import Client
from rlm_agent.serve.limits import Limits
from rlm_agent.serve.options import EFFORTS, Common, Effort
from rlm_agent.serve.searching import Desk, Found, Order, Told
from rlm_agent.structure.ids import derive_seed


class Office:
    """What the routes of both interfaces need: it makes orders and has them searched for."""

    def __init__(self, catalogue: Catalogue, limits: Limits, desk: Desk) -> None:
        self.catalogue = catalogue
        self.limits = limits
        self._desk = desk

    def order(
        self,
        client: Client,
        body: Common,
        messages: Sequence[BaseMessage],
        *,
        max_tokens: int | None,
        effort: Effort | None,
        choices: int = 1,
        seed: int | None = None,
    ) -> Order:
        """The order of a request, paid for by the client.

        Raises `Fault` for what is not on offer or more than the server allows, and `InputError` for
        parameters that the strategy does not take.
        """
        if choices > self.limits.max_choices:
            raise Fault(400, f"n is at most {self.limits.max_choices} here", param="n", code="too_many")
        offer = self.catalogue.find(body.model, body.rlm.strategy)
        decoding = {"temperature": body.temperature, "top_p": body.top_p}
        given = {name: value for name, value in decoding.items() if value is not None}
        parameters = {**given, **body.rlm.parameters}
        budget = self._budget(body, max_tokens, effort)
        first = seed if body.rlm.seed is None else body.rlm.seed
        first = draw_seed() if first is None else first
        return Order(
            name=offer.name,
            fingerprint=offer.fingerprint(parameters),
            reasoner=self.catalogue.reasoner(offer.strategy, offer.model, parameters),
            messages=messages,
            budget=budget,
            seeds=[first, *(derive_seed(first, index) for index in range(1, choices))],
            thoughts=body.rlm.thoughts and bool(body.stream),
            deposit=Deposit(client, choices * int(budget["tokens"] or 0)),
        )

    async def all_found(self, request: Request, order: Order) -> list[Found]:
        """What an order brings, when all of it is there; `Fault` (499) where the client leaves before."""
        feed = self.feed(order)
        try:
            return await unless_gone(request, self._collect(feed))
        finally:
            await feed.close()

    def feed(self, order: Order) -> Feed[Told]:
        """What an order brings, as it comes; to be closed."""
        return Feed(partial(self._desk.serve, order))

    async def _collect(self, feed: Feed[Told]) -> list[Found]:
        told: AsyncIterator[Told | None] = feed.items(self.limits.max_seconds)
        return [one async for one in told if isinstance(one, Found)]

    def _budget(self, body: Common, max_tokens: int | None, effort: Effort | None) -> dict[str, float | None]:
        """Of several bounds on one thing, the smallest holds."""
        limits = self.limits
        own = (body.rlm.budget.model_dump() if body.rlm.budget else {}) | {"max_tokens": max_tokens}
        for name, bound in own.items():
            most = limits.max_seconds if name == "seconds" else limits.max_tokens
            if bound is not None and bound > most:
                raise Fault(
                    400,
                    f"{name} is at most {most:g} here; ask for less",
                    param=name if name == "max_tokens" else f"rlm.budget.{name}",
                    code="invalid_budget",
                )
        usual = max(1, min(int(limits.tokens * EFFORTS[effort or "medium"]), limits.max_tokens))
        bounds = [bound for bound in (own.pop("max_tokens"), own.get("tokens")) if bound is not None]
        return {
            **own,
            "tokens": min(bounds, default=usual),
            "seconds": own.get("seconds") or limits.max_seconds,
        }
