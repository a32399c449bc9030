"""Weights as people have them: K-quants and others, whose kernels go by the rows of a batch; and experts."""

import ctypes
from pathlib import Path

import pytest

from rlm_agent.models.gguf.engine.engine import Engine
from rlm_agent.models.gguf.file import binding
from tests.models.models_of import a_tree, write_llama

WHOLE = {"F16": 1, "Q8_0": 7, "BF16": 32}
"""llama.cpp's numbers of types of which all rows up to 63 are computed alike."""

OTHERS = {"Q4_0": 2, "Q5_1": 9, "Q3_K_M": 12, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18, "IQ4_NL": 25}
"""Of types, or mixtures with types, that are computed otherwise from 8 rows on."""


def quantized(source: Path, kind: int) -> Path:
    lib, path = binding(), source.with_name(f"{kind}.gguf")
    params = lib.llama_model_quantize_default_params()
    params.ftype, params.nthread = kind, 1
    assert lib.llama_model_quantize(str(source).encode(), str(path).encode(), ctypes.byref(params)) == 0
    return path


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("quantized") / "llama.gguf")


@pytest.fixture(scope="module")
def experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_llama(tmp_path_factory.mktemp("experts") / "llama.gguf", experts=True)


def assert_exact(path: Path) -> None:
    """Who shares a batch decides nothing: at the sizes of batches from 2 to 13, and after forks anywhere."""
    engine = Engine(path, context=700, threads=1)
    assert engine.settings.exact
    for width in (1, 3, 13):
        shared = a_tree(engine, 5, forgetful=False, width=width)
        assert shared == a_tree(engine, 5, forgetful=True, width=width)
    engine.close()


@pytest.mark.parametrize("kind", [*WHOLE, *OTHERS])
def test_results_do_not_depend_on_the_batch_to_the_bit(llama: Path, kind: str) -> None:
    assert_exact(quantized(llama, (WHOLE | OTHERS)[kind]))


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_K_M"])
def test_nor_do_those_of_experts_who_get_any_number_of_rows(experts: Path, kind: str) -> None:
    assert_exact(quantized(experts, (WHOLE | OTHERS)[kind]))


@pytest.mark.parametrize("kind", WHOLE)
def test_many_rows_are_computed_at_once_where_that_is_exact(llama: Path, kind: str) -> None:
    engine = Engine(quantized(llama, WHOLE[kind]), context=200, threads=1)
    assert (engine.settings.fewest, engine.settings.most) == (2, 63)
    engine.close()


def test_who_does_not_want_exactness_gets_all_rows_at_once(llama: Path) -> None:
    engine = Engine(quantized(llama, OTHERS["Q4_K_M"]), context=200, threads=1, exact=False)
    assert engine.settings.most == engine.settings.batch > 63
    engine.close()
