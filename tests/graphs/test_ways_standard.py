"""LangChain's standard tests for `ReasonerChatModel`."""

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from rlm_agent import FakePolicy, ReasonerChatModel, create_self_consistency
from rlm_agent.models.fake import Reply


def adds(question: str, prefix: str) -> list[Reply]:
    return (
        [("The answer is \\boxed{4}.", -1.0, True)] if prefix else [("2 + 2 = 4", -1.0), ("Two twos.", -1.0)]
    )


class OfAReasoner:
    """What both suites are told of the model."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ReasonerChatModel

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"reasoner": create_self_consistency(FakePolicy(adds), n=3)}


class TestUnit(OfAReasoner, ChatModelUnitTests):
    pass


class TestIntegration(OfAReasoner, ChatModelIntegrationTests):
    @property
    def supports_model_override(self) -> bool:
        return False
