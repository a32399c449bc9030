"""What stands behind the name of a value, and which names and files are refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from rlm_agent.models.fake import FakePolicy, FakeValue
from rlm_agent.models.gguf.policy import GGUFPolicy
from rlm_agent.models.gguf.values.labels import YES_NO
from rlm_agent.models.gguf.values.mlp import HeadWeights
from rlm_agent.models.gguf.values.values import HeadValue, LabelValue, head_file
from rlm_agent.models.resolve import load_policy, load_value
from rlm_agent.structure.errors import InputError, ModelFileError, UnknownNameError
from rlm_agent.training.heads import weights_of, write_head_file
from tests.models.chains import candidates
from tests.models.conftest import WIDTH, MakeModel


@pytest.fixture
def headless(tiny: Path, tmp_path: Path) -> Iterator[GGUFPolicy]:
    """A tiny model in a folder of its own."""
    (tmp_path / "big.gguf").write_bytes(tiny.read_bytes())
    policy = GGUFPolicy(tmp_path / "big.gguf")
    yield policy
    policy.close()


def test_a_head_beside_the_model_counts_as_its_own(headless: GGUFPolicy, weights: HeadWeights) -> None:
    with pytest.raises(ModelFileError, match="has no value head; give a"):
        load_value("head", headless)
    write_head_file(head_file(headless.file.path), weights, headless.file.identity)
    assert isinstance(load_value("head", headless), HeadValue)


def test_a_head_in_a_file_of_its_own_is_applied_to_the_policy(
    headless: GGUFPolicy, policy: GGUFPolicy, weights: HeadWeights, tmp_path: Path
) -> None:
    path = tmp_path / "head.gguf"
    write_head_file(path, weights, headless.file.identity)
    value = load_value(path, headless)
    assert isinstance(value, HeadValue) and value.policy is headless
    chains = candidates(8)
    assert value.score(chains)[3].value == HeadValue(policy).score(chains)[3].value
    assert value.identity != HeadValue(policy).identity


def test_a_head_of_another_model_or_width_is_refused(headless: GGUFPolicy, tmp_path: Path) -> None:
    path = tmp_path / "head.gguf"
    write_head_file(path, weights_of([nn.Sequential(nn.Linear(WIDTH, 1)).state_dict()]), "0123456789abcdef")
    with pytest.raises(ModelFileError, match=r"made for another model than .*big.gguf; load that model"):
        load_value(str(path), headless)
    narrow = weights_of([nn.Sequential(nn.Linear(WIDTH // 2, 1)).state_dict()])
    write_head_file(path, narrow, headless.file.identity)
    with pytest.raises(ModelFileError, match=r"reads 32 numbers and the hidden states of .* have 64"):
        load_value(str(path), headless)


def test_export_refuses_a_head_of_another_width(make_model: MakeModel) -> None:
    with pytest.raises(InputError, match="reads 3 numbers and the model's hidden states have 64"):
        make_model(head=weights_of([nn.Sequential(nn.Linear(3, 1)).state_dict()]))


def test_a_model_of_its_own_judges_by_its_head_or_else_by_its_label(model: Path, tiny: Path) -> None:
    policy = FakePolicy(lambda question, prefix: [("", 0.0)])
    by_head, by_label = load_value(model, policy), load_value(str(tiny), policy)
    assert isinstance(by_head, HeadValue) and id(by_head.policy) == id(load_policy(model))
    assert isinstance(by_label, LabelValue) and by_label.labels == YES_NO
    assert by_head.identity != by_label.identity
    for value in (by_head, by_label):
        assert all(0 < score.value < 1 for score in value.score(candidates(3)))


def test_what_is_no_value_is_refused_in_a_sentence(policy: GGUFPolicy, tmp_path: Path) -> None:
    fake = FakePolicy(lambda question, prefix: [("", 0.0)])
    value = FakeValue(lambda steps: 0.5)
    assert load_value(None, fake) is None
    assert load_value(value, fake) is value
    for name in ("prm", "https://example.org/prm.gguf", "mini"):
        with pytest.raises(UnknownNameError, match="there is no value"):
            load_value(name, policy)
    with pytest.raises(UnknownNameError, match="FakePolicy is no value"):
        load_value(fake, policy)  # type: ignore[arg-type]
    with pytest.raises(ModelFileError, match="name an existing"):
        load_value(tmp_path / "missing.gguf", policy)
    for name in ("head", "label"):
        with pytest.raises(InputError, match="which FakePolicy does not allow"):
            load_value(name, fake)
