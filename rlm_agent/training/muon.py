"""Muon, momentum orthogonalised by Newton–Schulz, for the matrices inside the decoder.

Source: Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), with its
quintic coefficients. `torch.optim.Muon` exists, but iterates in bfloat16, which CPUs without the
instructions for it multiply forty times slower than float32; this one stays in float32 and takes all
matrices of one shape in one batched product.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; step length `lr · √max(1, rows / columns)`."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.01
    ):
        super().__init__(list(params), {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step over the gradients at hand."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for parameter in group["params"]:
                by_shape[parameter.shape].append(parameter)
            for parameters in by_shape.values():
                self._step_together(parameters, group["lr"], group["momentum"], group["decay"])

    def _step_together(
        self, parameters: list[nn.Parameter], lr: float, momentum: float, decay: float
    ) -> None:
        directions = []
        for parameter in parameters:
            assert parameter.grad is not None
            state = self.state[parameter]
            velocity = state.setdefault("velocity", torch.zeros_like(parameter))
            velocity.lerp_(parameter.grad, 1 - momentum)
            directions.append(parameter.grad.lerp(velocity, momentum))
        rows, columns = parameters[0].shape
        length = lr * max(1.0, rows / columns) ** 0.5
        for parameter, update in zip(parameters, orthogonalise(torch.stack(directions)), strict=True):
            parameter.mul_(1 - lr * decay).sub_(update, alpha=length)


def orthogonalise(matrices: Tensor) -> Tensor:
    """[count, rows, columns] → nearly orthogonal matrices of the same shape (singular values near 1)."""
    a, b, c = _COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_ITERATIONS):
        gram = x @ x.transpose(1, 2)
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.transpose(1, 2) if tall else x
    return result
