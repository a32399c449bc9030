"""Our tools as LangChain's, by the standard suites of langchain-tests."""

from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

from rlm_agent import Calculator
from rlm_agent.tools.calling import Limits
from rlm_agent.tools.dates import Dates
from rlm_agent.tools.protocols import Tool
from rlm_agent.tools.python import Python
from rlm_agent.tools.tables import Tables
from rlm_agent.tools.units import Units
from rlm_agent.tools.wrapping import as_langchain, as_tool


class _Calculating:
    @property
    def tool_constructor(self) -> BaseTool:
        return as_langchain(Calculator())

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"expression": "1/3 + 2"}


class _Converting:
    @property
    def tool_constructor(self) -> BaseTool:
        return as_langchain(Units())

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"conversion": "3 miles to km"}


class _Dating:
    @property
    def tool_constructor(self) -> BaseTool:
        return as_langchain(Dates())

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"expression": "2024-01-31 + 1 month"}


class _Programming:
    @property
    def tool_constructor(self) -> BaseTool:
        return as_langchain(Python())

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"code": "sum(range(10))"}


class _LookingUp:
    @pytest.fixture(autouse=True)
    def table(self, tmp_path: Path) -> None:
        self.path = tmp_path / "goods.csv"
        self.path.write_text("name,price\napple,2\n")

    @property
    def tool_constructor(self) -> BaseTool:
        return as_langchain(Tables(self.path))

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {"query": "SELECT * FROM goods"}

    @pytest.fixture
    def tool(self, table: None) -> BaseTool:
        return self.tool_constructor


class TestCalculatorUnit(_Calculating, ToolsUnitTests): ...


class TestCalculator(_Calculating, ToolsIntegrationTests): ...


class TestUnitsUnit(_Converting, ToolsUnitTests): ...


class TestUnits(_Converting, ToolsIntegrationTests): ...


class TestDatesUnit(_Dating, ToolsUnitTests): ...


class TestDates(_Dating, ToolsIntegrationTests): ...


class TestPythonUnit(_Programming, ToolsUnitTests): ...


class TestPython(_Programming, ToolsIntegrationTests): ...


class TestTablesUnit(_LookingUp, ToolsUnitTests): ...


class TestTables(_LookingUp, ToolsIntegrationTests): ...


@pytest.mark.parametrize(
    ("tool", "given", "said"),
    [
        (Calculator(), {"expression": "1/4"}, "0.25"),
        (Calculator(), {"expression": "1/0"}, "Error: ExpressionError: it divides by zero"),
        (Python(), {"code": "6 * 7"}, "42"),
        (Units(), {"conversion": "1 m to kg"}, "Error: UnitError: Cannot convert from 'meter' ([length]) to"),
    ],
)
async def test_what_it_says_is_the_same_and_an_error_is_no_answer(
    tool: Tool, given: dict[str, Any], said: str
) -> None:
    offered = as_langchain(tool)
    assert offered.invoke(given).startswith(said) and (await offered.ainvoke(given)).startswith(said)
    message = offered.invoke({"name": tool.name, "args": given, "id": "1", "type": "tool_call"})
    assert message.status == ("error" if said.startswith("Error") else "success")
    assert as_tool(offered).idempotent and as_tool(offered).name == tool.name


def test_there_and_back_a_tool_with_several_arguments_is_the_same() -> None:
    from tests.tools.test_syntax import add

    again = as_langchain(as_tool(add, idempotent=False), Limits(seconds=5))
    assert again.invoke({"first": 3, "second": 4}) == "7"
    assert "first" in again.invoke({"second": 4})
    assert not as_tool(again).idempotent
