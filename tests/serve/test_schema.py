"""Whatever the schema allows, and a good deal that it forbids, is answered as the schema says."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from rlm_agent import FakePolicy
from rlm_agent.serve.keys import Keyring
from rlm_agent.serve.limits import Limits
from tests.serve.conftest import running

KEY = "a-key-for-these-tests"
SEARCHES = ["/v1/chat/completions", "/v1/responses"]
READS = ["/v1/models", "/v1/models/{name}", "/health", "/metrics"]
LENIENT = [positive_data_acceptance, negative_data_rejection]
"""No schema can say which names and bounds this server knows, and names and keys are put in below."""


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    policy = FakePolicy(lambda question, prefix: [("\\boxed{4}", 0.0, True)])
    ring = Keyring()
    ring.add("tester", KEY)
    with running({"general": policy}, "chain", limits=Limits(concurrency=2), keyring=ring) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


def test_schema_tells_of_all_routes(api: Any) -> None:
    assert sorted(api.raw_schema["paths"]) == sorted(SEARCHES + READS)


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        *((path, GenerationMode.POSITIVE) for path in SEARCHES + READS),
        *((path, GenerationMode.NEGATIVE) for path in (*SEARCHES, "/v1/models/{name}")),
    ],
)
def test_no_request_breaks_the_server(api: Any, path: str, mode: GenerationMode) -> None:
    operation = api[path]["POST" if path in SEARCHES else "GET"]
    statuses = set()

    @settings(max_examples=50, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def answers(data: st.DataObject) -> None:
        case = data.draw(operation.as_strategy(generation_mode=mode))
        if isinstance(case.body, dict) and case.body.get("model"):
            case.body["model"] = "general"  # else all are refused for that
        response = case.call(headers={"Authorization": f"Bearer {KEY}"})
        statuses.add(response.status_code)
        case.validate_response(response, excluded_checks=LENIENT)

    answers()
    if mode is GenerationMode.POSITIVE:
        assert 200 in statuses or "{" in path
