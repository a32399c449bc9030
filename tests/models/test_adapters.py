"""LoRA adapters over one base model: another output, another cache, and files that are none."""

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest

from rlm_agent.models.gguf.engine.engine import Engine
from rlm_agent.models.gguf.engine.jobs import Job
from rlm_agent.models.protocols import Decoding
from rlm_agent.structure.errors import ModelFileError

WIDTH, RANK = 64, 4
PROMPT = tuple(range(10, 30))


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random adapter of the first layer's queries and of the last layer's outputs."""
    path = tmp_path_factory.mktemp("lora") / "value.gguf"
    rng = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 8.0)
    for name in ("blk.0.attn_q.weight", "blk.1.attn_output.weight"):
        writer.add_tensor(f"{name}.lora_a", rng.normal(size=(RANK, WIDTH)).astype(np.float32))
        writer.add_tensor(f"{name}.lora_b", rng.normal(size=(WIDTH, RANK)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def engine(tiny: Path, adapter: Path) -> Iterator[Engine]:
    engine = Engine(tiny, adapters={"value": adapter})
    yield engine
    engine.close()


def jobs(names: list[str | None]) -> list[Job]:
    return [Job(PROMPT, 6, decoding=Decoding(temperature=0), ends=False, adapter=name) for name in names]


def test_base_and_adapter_swap_within_one_call_and_share_no_cache(engine: Engine, tiny: Path) -> None:
    plain = Engine(tiny)
    expected = plain.complete(jobs([None]))[0]
    plain.close()
    mixed = engine.complete(jobs([None, "value", None, "value"]))
    assert mixed[0].tokens == mixed[2].tokens == expected.tokens
    assert mixed[0].logprob == expected.logprob
    assert mixed[1].tokens == mixed[3].tokens
    assert mixed[1].logprob != expected.logprob
    assert (mixed[0].computed, mixed[1].computed) == (len(PROMPT), len(PROMPT))
    assert engine.complete(jobs(["value"]))[0].logprob == mixed[1].logprob


def test_files_that_are_no_adapter_of_this_model(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="cannot be opened"):
        Engine(tiny, adapters={"value": tmp_path / "none.gguf"})
    with pytest.raises(ModelFileError, match="no LoRA adapter"):
        Engine(tiny, adapters={"value": tiny})
