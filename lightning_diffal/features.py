"""Features and probabilities of the whole data set, read in one pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lightning_diffal._calls import HINT, call_forward, call_method, floating_tensors
from lightning_diffal._dropout import DropoutPasses
from lightning_diffal._head import Head, find_head, rows_before, to_probabilities
from lightning_diffal._lightning import batch_to_device, feature_pass, pl
from lightning_diffal._random import isolated_random_state
from lightning_diffal.exceptions import FeatureError
from lightning_diffal.targets import Target

if TYPE_CHECKING:
    from lightning_diffal.datamodule import ActiveDataModule

__all__ = ["KNOWN_REQUIREMENTS", "FeatureExtractor"]

KNOWN_REQUIREMENTS = frozenset({"features", "probabilities", "mc_probabilities"})
"""What a sampler may require."""

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]


class FeatureExtractor:
    """Reads features and probabilities of the data set, both in one pass.

    Args:
        features: `"auto"` (the input of the head found by `find_head`), the name of a submodule (its output, as
            the mean over places or tokens where it has such), or the name of a method of the model or of a
            submodule. A method whose first parameter is called `batch` gets the whole batch; any other is called
            as `forward` is.
    """

    def __init__(self, features: str = "auto") -> None:
        self.features = features
        self.head: Head | None = None

    def prepare(self, trainer: pl.Trainer, data: ActiveDataModule, wanted: frozenset[str]) -> int | None:
        """Read two items before training, so that a model whose features cannot be found is refused early.

        Returns:
            How many outputs the model has, where that was needed; else `None`.

        Raises:
            FeatureError: no head was found, or `features` names nothing in the model, or no features.
            ConfigurationError: Monte-Carlo dropout is wanted of a model without dropout.
        """
        module = self._module(trainer)
        if self.features != "auto" and self._named(module) is None:
            raise FeatureError(
                f"Expected `features` to name a submodule or a method of {type(module).__name__}, "
                f"but got {self.features!r}. {HINT}"
            )
        self.head = None
        if not wanted:
            return None
        data.warn_of_augmentation()
        items = np.arange(min(2, len(data.pool)))  # of a single one `squeeze` would leave no row
        found = 0

        def look(batch: Any) -> None:
            nonlocal found
            if self.head is None and (self.features == "auto" or wanted & {"probabilities", "mc_probabilities"}):
                self.head = find_head(module, lambda: call_forward(module, batch, data.target), data.num_classes)
            rows = self._read(module, batch, data.target, wanted)
            passes = self._dropout_passes(module, data, wanted, n_passes=2, seed=0)
            if passes is not None:
                passes.check(lambda: self._outputs(module, batch, data.target))
            found += _common_length(rows) if rows else len(items)

        with isolated_random_state():
            self._go_over(trainer, data, items, look)
        _check_rows(found, len(items))
        return None if self.head is None else max(self.head.width, 2)  # a single output tells two classes apart

    def __call__(
        self,
        trainer: pl.Trainer,
        data: ActiveDataModule,
        indices: IntArray,
        wanted: frozenset[str],
        seed: int,
        *,
        mc_passes: int = 20,
    ) -> dict[str, FloatArray]:
        """Features and probabilities of some points, each batch read once.

        Modes of all submodules and the global random state are afterwards as they were.

        Args:
            trainer: in a fit.
            data: where points come from, without augmentation.
            indices: `(n,)` positions in the training data set.
            wanted: of `"features"`, `"probabilities"` and `"mc_probabilities"`.
            seed: for data sets that draw at random, and for dropout; the same points read the same in a resumed run.
            mc_passes: how often Monte-Carlo dropout runs.

        Returns:
            By name, float32 arrays `(n, D)`, `(n, C)` and `(n, C + 1)` (mean probabilities and mean entropy over the
            passes), row by row the points of `indices`.

        Raises:
            FeatureError: another number of rows than points, or rows of different lengths.
        """
        found: dict[str, FloatArray] = {}
        row = 0
        if not wanted:
            return found
        module = self._module(trainer)
        passes = self._dropout_passes(module, data, wanted, mc_passes, seed)

        def keep(batch: Any) -> None:
            nonlocal row
            rows = self._read(module, batch, data.target, wanted)
            if passes is not None:
                rows["mc_probabilities"] = passes.read(partial(self._outputs, module, batch, data.target))
            size = _common_length(rows)
            for name, values in rows.items():
                if name not in found:
                    found[name] = np.empty((len(indices), values.shape[1]), dtype=np.float32)
                if values.shape[1] != found[name].shape[1]:
                    raise FeatureError(
                        f"Expected {name} of the same length for all points, but got {found[name].shape[1]} and "
                        f"then {values.shape[1]} numbers. {HINT}"
                    )
                if row + size <= len(indices):
                    found[name][row : row + size] = values.float().cpu().numpy()
            row += size

        with isolated_random_state(seed):
            self._go_over(trainer, data, indices, keep)
        _check_rows(row, len(indices))
        if "probabilities" in found and self.head is not None:
            # over all points at once: a few logits may look like probabilities by chance
            outputs = torch.from_numpy(found["probabilities"])
            found["probabilities"] = to_probabilities(
                outputs, are_logits=self.head.returned_as_is, multilabel=data.pool.is_multilabel
            ).numpy()
        if "mc_probabilities" in found and passes is not None:
            found["mc_probabilities"] = passes.result(found["mc_probabilities"])
        return found

    def _module(self, trainer: pl.Trainer) -> pl.LightningModule:
        return trainer.lightning_module

    def _go_over(
        self, trainer: pl.Trainer, data: ActiveDataModule, indices: IntArray, use: Callable[[Any], None]
    ) -> None:
        """Show each batch of these points, as `predict_step` would get it, with the model in evaluation mode."""
        with feature_pass(trainer):
            for items in data.pool_dataloader(indices):
                use(batch_to_device(trainer, items))

    def _read(self, module: nn.Module, batch: Any, target: Target, wanted: frozenset[str]) -> dict[str, Tensor]:
        """Features, and outputs that probabilities will be made of, one row an item."""
        rows: dict[str, Tensor] = {}
        if not wanted & {"features", "probabilities"}:
            return rows
        named = self._named(module) if "features" in wanted and self.features != "auto" else None
        if named is not None and not isinstance(named, nn.Module):
            rows["features"] = _as_rows(call_method(named, batch, target))
            if "probabilities" not in wanted:
                return rows
        seen: list[tuple[Any, Any]] = []
        layer = named if isinstance(named, nn.Module) else module.get_submodule(self.head.name) if self.head else None
        handle = None if layer is None else layer.register_forward_hook(_remember(seen), with_kwargs=True)
        try:
            returned = list(floating_tensors(call_forward(module, batch, target)))
        finally:
            if handle is not None:
                handle.remove()
        if "features" in wanted and "features" not in rows:
            if not seen:
                raise FeatureError(f"The layer that features come from did not run in `forward`. {HINT}")
            inputs, outputs = seen[-1]
            if self.features == "auto" and self.head is not None:
                rows["features"] = rows_before(inputs, outputs, returned[self.head.output])
            else:
                tensor = next(floating_tensors(outputs), None)
                if tensor is None:
                    raise FeatureError(f"Expected {self.features!r} to return a tensor of features. {HINT}")
                rows["features"] = _as_rows(tensor)
        if "probabilities" in wanted and self.head is not None:
            rows["probabilities"] = returned[self.head.output].reshape(-1, self.head.width)
        return rows

    def _dropout_passes(
        self, module: nn.Module, data: ActiveDataModule, wanted: frozenset[str], n_passes: int, seed: int
    ) -> DropoutPasses | None:
        if "mc_probabilities" not in wanted or self.head is None:
            return None
        return DropoutPasses(
            module, n_passes, seed, are_logits=self.head.returned_as_is, multilabel=data.pool.is_multilabel
        )

    def _outputs(self, module: nn.Module, batch: Any, target: Target) -> Tensor:
        """What the head's output has become, one row an item."""
        returned = list(floating_tensors(call_forward(module, batch, target)))
        assert self.head is not None
        return returned[self.head.output].reshape(-1, self.head.width)

    def _named(self, module: nn.Module) -> Any:
        """The submodule or method that `features` names."""
        try:
            return module.get_submodule(self.features)
        except AttributeError:
            owner, _, method = self.features.rpartition(".")
        try:
            found = getattr(module.get_submodule(owner), method, None)
        except AttributeError:
            return None
        return found if callable(found) else None


def _common_length(rows: dict[str, Tensor]) -> int:
    """How many items the rows are of; they have to agree."""
    lengths = {name: len(values) for name, values in rows.items()}
    if len(set(lengths.values())) > 1:
        raise FeatureError(f"Expected as many rows of features as of outputs, but got {lengths}. {HINT}")
    return max(lengths.values())


def _check_rows(found: int, expected: int) -> None:
    if found != expected:
        raise FeatureError(
            f"Expected one row of features for each of {expected} points, but got {found}: the collate function "
            f"or the layer changes the number of items. {HINT}"
        )


def _remember(seen: list[tuple[Any, Any]]) -> Callable[..., None]:
    """A hook that keeps the first input of a layer and its output, both as they are now: more may happen in place."""

    def hook(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        first = args[0] if args else next(iter(kwargs.values()), None)
        seen.append((_copied(first), _copied(output)))

    return hook


def _copied(value: Any) -> Any:
    return value.clone() if isinstance(value, Tensor) else value


def _as_rows(features: Tensor) -> Tensor:
    """One vector an item: the mean over places `(B, D, H, W)` or over tokens `(B, T, D)`."""
    while features.ndim > 2 and features.shape[-1] == 1:  # what is left of pooled places
        features = features.squeeze(-1)
    if features.ndim <= 2:
        return features.reshape(len(features), -1)
    return features.flatten(2).mean(dim=2) if features.ndim > 3 else features.mean(dim=1)
