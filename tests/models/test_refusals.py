"""What the engine cannot do ends in one sentence with a remedy, and harms nobody who is under way."""

import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from rlm_agent.bench.models import SIZES, make_random_model
from rlm_agent.models.gguf.engine.engine import Engine
from rlm_agent.models.gguf.engine.jobs import Job, Result
from rlm_agent.models.gguf.file import ModelFile
from rlm_agent.models.gguf.values.mlp import HeadWeights
from rlm_agent.models.gguf.writing import gguf_writer
from rlm_agent.models.protocols import Decoding
from rlm_agent.structure.errors import DecodeError, ModelFileError
from rlm_agent.training.heads import write_head_file

PROMPT = tuple(range(10, 40))
BAD_GRAMMARS = ["root ::= rest", 'start ::= "a"', 'root ::= root "a"', "(" * 9999]
STARVED = """
import resource, sys
from rlm_agent.models.gguf.engine.engine import Engine
from rlm_agent.models.gguf.engine.jobs import Job
from rlm_agent.structure.errors import RlmError
path, cells = sys.argv[1], int(sys.argv[2])
engine = Engine(path, context=64, threads=1)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, -1))
try:
    Engine(path, context=cells, threads=1)
except RlmError as error:
    print(type(error).__name__, error)
print(len(engine.complete([Job(tuple(range(10, 20)), 5, ends=False)])[0].tokens))
engine.close()
"""


POOR = """
import resource, sys
from pathlib import Path
from rlm_agent.models.gguf.file import ModelFile, binding
from rlm_agent.structure.errors import RlmError
binding()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]), -1))
try:
    ModelFile(Path(sys.argv[1]))
except RlmError as error:
    print(type(error).__name__, error)
"""


def asked(count: int) -> list[Job]:
    return [Job((*PROMPT, 50 + index), 12, seed=index, ends=False) for index in range(count)]


def tokens(results: Sequence[Result]) -> list[tuple[int, ...]]:
    return [result.tokens for result in results]


def test_files_that_are_no_model_are_refused_with_a_remedy(tmp_path: Path) -> None:
    text, empty, other, missing = (tmp_path / name for name in ("text", "empty", "other.gguf", "missing"))
    text.write_text("# a title\n" * 100)
    empty.write_bytes(b"")
    with gguf_writer(other, "unheard-of") as writer:
        writer.add_uint32("unheard-of.block_count", 1)
    for path, remedy in {
        text: "name a .gguf file",
        empty: "name a .gguf file",
        missing: "name an existing .gguf file",
        tmp_path: "name an existing .gguf file",
        other: "install a newer llama-cpp-python, or take another model",
    }.items():
        with pytest.raises(ModelFileError, match=remedy) as refused:
            Engine(path)
        assert str(path) in str(refused.value)


def test_a_file_of_a_value_head_alone_is_no_model(tmp_path: Path, weights: HeadWeights) -> None:
    write_head_file(tmp_path / "head.gguf", weights, "abc")
    with pytest.raises(ModelFileError, match="cannot be loaded"):
        ModelFile(tmp_path / "head.gguf")


@pytest.mark.parametrize("grammar", BAD_GRAMMARS)
def test_grammar_that_does_not_compile_harms_nobody_in_its_call_or_in_another(
    tiny: Path, grammar: str
) -> None:
    engine = Engine(tiny, threads=1)
    good, bad = asked(6), Job(PROMPT, 5, decoding=Decoding(grammar=grammar))
    alone = tokens(engine.complete(good))
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(engine.complete, [Job(PROMPT, 200, seed=9, ends=False)] * 3)
        results = engine.complete([*good[:3], bad, *good[3:]])
        assert [len(result.tokens) for result in beside.result()] == [200] * 3
    assert tokens([*results[:3], *results[4:]]) == alone
    assert results[3].finish == "error"
    assert "grammar" in str(results[3].error)
    engine.close()


def test_a_context_that_memory_does_not_suffice_for_is_told_and_others_go_on(tiny: Path) -> None:
    """In another process, whose address space is bounded."""
    words = [sys.executable, "-c", STARVED, str(tiny), str(50_000_000)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]
    told, written = done.stdout.splitlines()
    assert told.startswith(f"{DecodeError.__name__} llama.cpp cannot make a context of 50000000 cells")
    assert told.endswith("ask for a smaller context")
    assert written == "5"


def test_weights_that_memory_does_not_suffice_for_are_told_from_a_damaged_file(tmp_path: Path) -> None:
    """In another process, whose address space is bounded."""
    path = tmp_path / "large.gguf"
    make_random_model(path, replace(SIZES["5m"], layers=40))
    done = subprocess.run(
        [sys.executable, "-c", POOR, str(path), str(path.stat().st_size // 2)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    told = f"{ModelFileError.__name__} {path} cannot be loaded: there is not enough memory for its weights"
    assert done.stdout.startswith(told)
    ModelFile(path).close()
