"""Monte-Carlo dropout: the same batch through the model again and again, other units dropped each time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.features.head import are_probabilities, to_probabilities
from lightning_diffal.utils.aliases import FloatArray
from lightning_diffal.utils.seeding import isolated_random_state

__all__ = ["DropoutPasses", "dropout_modules"]


def dropout_modules(module: nn.Module) -> list[nn.Module]:
    """Submodules that drop units in training: those of torch, and others that call themselves so.

    Example:
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Dropout(0.0))
        >>> dropout_modules(model)
        [Dropout(p=0.5, inplace=False)]
    """
    return [
        part
        for part in module.modules()
        if (isinstance(part, nn.modules.dropout._DropoutNd) or "dropout" in type(part).__name__.lower())
        and getattr(part, "p", 1) != 0
    ]


class DropoutPasses:
    """Sums up passes of one model with dropout: `(N, C + 1)` is kept, `(T, N, C)` never exists.

    Only dropout modules are in training mode meanwhile: batch norm neither uses the batch nor learns from it. Draws
    come from generators of their own, one per batch, so that the data set reads the same with and without the passes,
    and a resumed run draws the same.

    Args:
        module: in evaluation mode.
        n_passes: how often every batch runs.
        seed: of the draws.
        are_logits: what the model returns is known to be logits. Else it is one thing or the other for all points.
        multilabel: each column is a label of its own.
    """

    def __init__(
        self, module: nn.Module, n_passes: int, seed: int, *, are_logits: bool, multilabel: bool = False
    ) -> None:
        self.module = module
        self.n_passes = n_passes
        self.seed = seed
        self.multilabel = multilabel
        self._batches = 0
        self._readings = [True] if are_logits else [True, False]
        self._look_like_probabilities = not are_logits

    def read(self, call: Callable[[], Tensor]) -> Tensor:
        """Run one batch.

        Args:
            call: one forward pass; returns the outputs, `(B, C)` or `(B, 1)`.

        Returns:
            `(B, R)` rows for `result`, when all batches are read.
        """
        seed = int(np.random.default_rng([self.seed, self._batches]).integers(2**31))
        self._batches += 1
        total: Tensor | None = None
        with isolated_random_state(seed), _dropping(self.module):
            for _ in range(self.n_passes):
                outputs = call().float()
                self._look_like_probabilities &= are_probabilities(outputs, multilabel=self.multilabel)
                rows = torch.cat([self._summarise(outputs, are_logits) for are_logits in self._readings], dim=1)
                total = rows if total is None else total + rows
        if total is None:
            raise ConfigurationError(f"Expected argument `n_passes` to be at least 1, but got {self.n_passes}.")
        return total / self.n_passes

    def result(self, rows: FloatArray) -> FloatArray:
        """`(N, C + 1)` mean probabilities and, last, the mean entropy of one pass, out of the rows of all batches.

        Of several labels, the entropy is the mean over the labels.
        """
        # over all points at once: a few logits may look like probabilities by chance
        width = rows.shape[1] // len(self._readings)
        return rows[:, -width:] if self._look_like_probabilities else rows[:, :width].copy()

    def check(self, call: Callable[[], Tensor]) -> None:
        """Refuse a model in which no dropout module runs.

        Raises:
            ConfigurationError: all passes would be the same.
        """
        ran: list[nn.Module] = []
        handles = [
            part.register_forward_hook(lambda dropout, _inputs, _output: ran.append(dropout))
            for part in dropout_modules(self.module)
        ]
        try:
            self.read(call)
        finally:
            for handle in handles:
                handle.remove()
        if not ran:
            raise ConfigurationError(
                "Expected a model with dropout for a sampler that requires `mc_probabilities`, such as BALDSampler, "
                f"but no dropout module with p > 0 runs in `forward` of {type(self.module).__name__}: all passes would "
                "be the same. Add an nn.Dropout (functional dropout is not switched on), or take another sampler."
            )

    def _summarise(self, outputs: Tensor, are_logits: bool) -> Tensor:
        """`(B, C)` outputs of one pass -> `(B, C + 1)` probabilities and their entropy."""
        probabilities = to_probabilities(outputs, are_logits=are_logits, multilabel=self.multilabel)
        terms = torch.special.entr(probabilities)
        if self.multilabel:
            entropy = (terms + torch.special.entr(1 - probabilities)).mean(dim=1, keepdim=True)
        else:
            entropy = terms.sum(dim=1, keepdim=True)
        return torch.cat([probabilities, entropy], dim=1)


@contextmanager
def _dropping(module: nn.Module) -> Iterator[None]:
    """Dropout modules in training mode, themselves and not what they contain."""
    parts = [part for part in dropout_modules(module) if not part.training]
    # in evaluation mode transformer layers take a fused path without their dropout modules
    fused = getattr(getattr(torch.backends, "mha", None), "get_fastpath_enabled", lambda: False)()
    if fused:
        torch.backends.mha.set_fastpath_enabled(False)
    for part in parts:
        part.training = True
    try:
        yield
    finally:
        for part in parts:
            part.training = False
        if fused:
            torch.backends.mha.set_fastpath_enabled(True)
