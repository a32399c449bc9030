"""What the README and the examples show is run as it stands."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MINI = ROOT / "rlm_agent" / "models" / "weights" / "mini.gguf"
EXAMPLES = {
    "node_in_an_app.py": [],
    "watch_a_search.py": [],
    "stream_tokens.py": [],
    "nested.py": [],
    "own_strategy.py": [],
    "graph_of_thoughts.py": [],
    "go_on_after_a_crash.py": [],
    "own_model.py": [str(MINI)],
    "chat_gguf.py": [],
    "reasoner_as_a_tool.py": [],
    "reasoner_as_a_chat_model.py": [],
    "reasoning_middleware.py": [],
    "reasoning_agent.py": [],
    "rag_over_a_folder.py": [],
    "tools_in_an_app.py": [],
    "serve_and_ask.py": [],
    "tracing_with_opentelemetry.py": [],
    "human_in_the_loop.py": [],
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = "".join(blocks("console")).splitlines()
    return [line.partition("#")[0].strip() for line in lines if line.strip()]


def run(command: list[str]) -> str:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("block", blocks("python"), ids=["node", "tree", "tools"])
def test_python_block_of_the_readme_runs(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block, "README.md", "exec"), {})  # noqa: S102 - our own text
    assert capsys.readouterr().out.strip()


def test_python_blocks_of_persistence_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / "persistence.md").read_text(encoding="utf-8")
    found = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(found) == 4
    exec(compile("\n".join(found), "persistence.md", "exec"), {})  # noqa: S102 - our own text


def test_quickstart_is_short() -> None:
    assert len([line for line in blocks("python")[0].splitlines() if line.strip()]) <= 15


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("rlm-agent")])
def test_command_of_the_readme_runs(command: str) -> None:
    assert run(shlex.split(command)).strip()


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("make")])
def test_make_target_of_the_readme_exists(command: str) -> None:
    run(["make", "--dry-run", "--always-make", *shlex.split(command)[1:]])


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("pip")])
def test_installed_extra_of_the_readme_exists(command: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = re.findall(r"\[([\w,]+)\]", command)[0].split(",")
    assert set(wanted) <= set(project["optional-dependencies"])


def test_every_kind_of_console_line_is_tested() -> None:
    assert {line.split()[0] for line in commands()} == {"make", "pip", "rlm-agent"}


def test_every_example_is_tested() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs(name: str) -> None:
    output = run([sys.executable, "-W", "error", str(ROOT / "examples" / name), *EXAMPLES[name]])
    assert output.strip()
    if name == "go_on_after_a_crash.py":
        answers = re.findall(r"(?:answer|crash): (.+)", output)
        assert "stopped: the power went out" in output
        assert len(answers) == 2
        assert answers[0] == answers[1]


def test_strategy_table_of_the_readme_is_complete() -> None:
    from rlm_agent.graphs.reasoner import STRATEGIES

    assert set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)) == set(STRATEGIES)


def test_every_link_of_the_readme_leads_somewhere() -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target
