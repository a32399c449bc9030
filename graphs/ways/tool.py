"""A reasoner as a tool of an agent."""

from typing import Any

from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import BaseModel, Field

from rlm_agent.graphs.machine.rules import Reasoner
from rlm_agent.graphs.ways.atomic import Atomic, Found
from rlm_agent.structure.errors import InputError

DESCRIPTION = (
    "Thinks about a difficult question step by step and answers it. The question must be complete, since "
    "nothing else of the conversation is seen."
)


class Question(BaseModel):
    """What the tool is asked."""

    question: str = Field(description="the complete question")


def as_tool(reasoner: Reasoner, *, name: str | None = None, description: str = DESCRIPTION) -> BaseTool:
    """A tool that puts its `question` to a reasoner and returns the answer.

    `name` is the reasoner's own by default. The artifact of the tool's message holds `answer` (None where
    none was found), `reasoning`, `sources` and `usage`. A question that the reasoner refuses is an error that
    the agent is told. Nothing is stored under the agent's thread: a call that was broken off begins anew.
    """
    atomic = Atomic(reasoner)

    def ask(question: str, config: RunnableConfig) -> tuple[str, dict[str, Any]]:
        try:
            return _told(atomic.ask([HumanMessage(question)], config))
        except InputError as error:
            raise ToolException(str(error)) from error

    async def aask(question: str, config: RunnableConfig) -> tuple[str, dict[str, Any]]:
        try:
            return _told(await atomic.aask([HumanMessage(question)], config))
        except InputError as error:
            raise ToolException(str(error)) from error

    return StructuredTool.from_function(
        ask,
        aask,
        name=name or atomic.name,
        description=description,
        args_schema=Question,
        response_format="content_and_artifact",
        handle_tool_error=True,
    )


def _told(found: Found) -> tuple[str, dict[str, Any]]:
    return str(found.reply.text), {
        "answer": found.answer,
        "reasoning": found.reasoning,
        "sources": found.reply.additional_kwargs.get("sources", []),
        "usage": found.usage,
    }
