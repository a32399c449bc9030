"""What Prometheus reads of the server."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from rlm_agent.serve.admission import Gate
from rlm_agent.structure.budget import Usage

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)


class Metrics:
    """Counts of one server, in a registry of their own."""

    def __init__(self, gate: Gate) -> None:
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "rlm_requests",
            "Requests answered, 499 where the client left.",
            ("route", "status"),
            registry=registry,
        )
        self._latency = Histogram(
            "rlm_request_seconds",
            "From request to last byte.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._searches = Counter(
            "rlm_searches", "Searches that ended, by how.", ("model", "ended"), registry=registry
        )
        self._searching = Histogram(
            "rlm_search_seconds", "Time inside a search.", ("model",), buckets=_SECONDS, registry=registry
        )
        self._tokens = Counter(
            "rlm_tokens", "Tokens by what was done with them.", ("model", "kind"), registry=registry
        )
        running = Gauge("rlm_searches_running", "Searches that run.", registry=registry)
        running.set_function(lambda: gate.running)
        waiting = Gauge("rlm_searches_waiting", "Requests that wait for a search to end.", registry=registry)
        waiting.set_function(lambda: gate.waiting)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def searched(self, model: str, ended: str, seconds: float) -> None:
        """A search ended: with an answer, without one, refused, cancelled or by an error."""
        self._searches.labels(model, ended).inc()
        self._searching.labels(model).observe(seconds)

    def spent(self, model: str, usage: Usage) -> None:
        """A search has told what it took."""
        self._count(
            model,
            (
                ("prompt", usage["prompt_tokens"]),
                ("cached", usage["cached_tokens"]),
                ("completion", usage["completion_tokens"]),
            ),
        )

    def broken_off(self, model: str, completion_tokens: int) -> None:
        """A search was broken off after so many generated tokens."""
        self._count(model, [("completion", completion_tokens)])

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)

    def _count(self, model: str, kinds: Iterable[tuple[str, int]]) -> None:
        for kind, tokens in kinds:
            self._tokens.labels(model, kind).inc(tokens)
