"""Orthogonalised momentum."""

import pytest
import torch
from torch import Tensor, nn

from rlm_agent.training.muon import Muon, orthogonalise


def _with_spectrum(rows: int, columns: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Random left vectors, singular values from .02 to 1, random right vectors."""
    generator = torch.Generator().manual_seed(seed)
    left, _, right = torch.linalg.svd(torch.randn(rows, columns, generator=generator), full_matrices=False)
    return left, torch.linspace(0.02, 1, min(rows, columns)), right


@pytest.mark.parametrize(("rows", "columns"), [(32, 32), (24, 80), (80, 24)])
def test_singular_values_come_near_one_and_singular_vectors_stay(rows: int, columns: int) -> None:
    for seed in range(5):
        left, values, right = _with_spectrum(rows, columns, seed)
        (result,) = orthogonalise((left * values @ right)[None])
        inner = left.T @ result @ right.T
        assert result.shape == (rows, columns)
        assert inner.diagonal().min() > 0.65 and inner.diagonal().max() < 1.15
        assert (inner - inner.diagonal().diag()).abs().max() < 1e-4


def test_the_scale_of_a_gradient_does_not_matter() -> None:
    matrix = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert (orthogonalise(1000 * matrix) - orthogonalise(matrix)).abs().max() < 1e-4


def test_matrices_stepped_together_move_as_each_would_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    starts = [torch.randn(shape, generator=generator) for shape in ((8, 4), (8, 4), (4, 8))]
    gradients = [torch.randn(start.shape, generator=generator) for start in starts]

    def stepped(chosen: list[int]) -> list[Tensor]:
        parameters = [nn.Parameter(starts[index].clone()) for index in chosen]
        optimizer = Muon(parameters, lr=0.1)
        for parameter, index in zip(parameters, chosen, strict=True):
            parameter.grad = gradients[index]
        optimizer.step()
        return [parameter.detach() for parameter in parameters]

    for index, together in enumerate(stepped([0, 1, 2])):
        (alone,) = stepped([index])
        assert (together - alone).abs().max() < 1e-6


@pytest.mark.parametrize(("rows", "columns", "length"), [(16, 4, 2.0), (4, 16, 1.0)])
def test_a_step_is_longer_for_tall_matrices(rows: int, columns: int, length: float) -> None:
    left, values, right = _with_spectrum(rows, columns, seed=0)
    parameter = nn.Parameter(torch.zeros(rows, columns))
    parameter.grad = left * values @ right
    Muon([parameter], lr=0.1, decay=0.0).step()
    moved = torch.linalg.svdvals(parameter.detach()) / (0.1 * length)
    assert moved.min() > 0.65 and moved.max() < 1.15
