"""Features and probabilities of the whole data set, read in one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from lightning_diffal._lightning import batch_to_device, feature_pass, pl
from lightning_diffal.exceptions import FeatureError
from lightning_diffal.features.calls import HINT, call_forward, call_method, floating_tensors
from lightning_diffal.features.dropout import DropoutPasses
from lightning_diffal.features.head import Head, find_head, rows_before, to_probabilities
from lightning_diffal.labels.targets import Target, without_target
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.phases import announce
from lightning_diffal.utils.seeding import isolated_random_state

if TYPE_CHECKING:
    from lightning_diffal.data.datamodule import ActiveDataModule

__all__ = ["KNOWN_REQUIREMENTS", "FeatureExtractor"]

KNOWN_REQUIREMENTS = frozenset({"features", "probabilities", "mc_probabilities"})
"""What a sampler may require."""


class FeatureExtractor:
    """Reads features and probabilities of the data set, both in one pass.

    Args:
        features: `"auto"` (the input of the head found by `find_head`), the name of a submodule (its output, as
            the mean over places or tokens where it has such), the name of a method of the model or of a
            submodule, or `"inputs"` (what the model is given, flattened; the model's own part of that name goes
            first). A method whose first parameter is called `batch` gets the whole batch; any other is called as
            `forward` is. Several of them, joined by `+`, are set side by side, each as a unit vector.
    """

    def __init__(self, features: str = "auto") -> None:
        self.features = features
        self.parts = tuple(part.strip() for part in features.split("+"))
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
        for part in self.parts:
            if part not in ("auto", "inputs") and _named(module, part) is None:
                raise FeatureError(
                    f"Expected `features` to name a submodule or a method of {type(module).__name__}, "
                    f"but got {part!r}. {HINT}"
                )
        self.head = None
        if not wanted:
            return None
        data.warn_of_augmentation()
        items = np.arange(min(2, len(data.pool)))  # of a single one `squeeze` would leave no row
        found = 0

        def look(batch: Any) -> None:
            nonlocal found
            if self.head is None and ("auto" in self.parts or wanted & {"probabilities", "mc_probabilities"}):
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
            announce("reading features", min(row, len(indices)), len(indices))

        announce("reading features", 0, len(indices))
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
        parts: dict[str, Tensor] = {}
        layers: dict[str, nn.Module] = {}
        for part in self.parts if "features" in wanted else ():
            source = self._source(module, part)
            if isinstance(source, nn.Module):
                layers[part] = source
            elif source is None:
                parts[part] = _inputs(batch, target)
            else:
                parts[part] = _as_rows(call_method(source, batch, target))
        rows: dict[str, Tensor] = {}
        if layers or "probabilities" in wanted:
            seen: dict[str, tuple[Any, Any]] = {}
            with ExitStack() as hooks:
                for part, layer in layers.items():
                    hooks.callback(layer.register_forward_hook(_remember(seen, part), with_kwargs=True).remove)
                returned = list(floating_tensors(call_forward(module, batch, target)))
            for part in layers:
                parts[part] = self._rows_of(part, seen, returned)
            if "probabilities" in wanted and self.head is not None:
                rows["probabilities"] = returned[self.head.output].reshape(-1, self.head.width)
        if parts:
            rows["features"] = _side_by_side([parts[part] for part in self.parts])
        return rows

    def _source(self, module: nn.Module, part: str) -> Any:
        """The layer or method that a part of the features comes from; None for the inputs."""
        if part == "auto":
            assert self.head is not None
            return module.get_submodule(self.head.name)
        return _named(module, part)

    def _rows_of(self, part: str, seen: Mapping[str, tuple[Any, Any]], returned: list[Tensor]) -> Tensor:
        """What a layer was given or has given, one row an item."""
        if part not in seen:
            raise FeatureError(f"The layer that features come from did not run in `forward`. {HINT}")
        inputs, outputs = seen[part]
        if part == "auto" and self.head is not None:
            return rows_before(inputs, outputs, returned[self.head.output])
        tensor = next(floating_tensors(outputs), None)
        if tensor is None:
            raise FeatureError(f"Expected {part!r} to return a tensor of features. {HINT}")
        return _as_rows(tensor)

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


def _named(module: nn.Module, name: str) -> Any:
    """The submodule or method of this name."""
    try:
        return module.get_submodule(name)
    except AttributeError:
        owner, _, method = name.rpartition(".")
    try:
        found = getattr(module.get_submodule(owner), method, None)
    except AttributeError:
        return None
    return found if callable(found) else None


def _inputs(batch: Any, target: Target) -> Tensor:
    """A batch without its label, one row an item."""
    tensors = [tensor.reshape(len(tensor), -1) for tensor in floating_tensors(without_target(batch, target))]
    if not tensors:
        raise FeatureError(
            f"Expected items with floating-point numbers for features='inputs', but found none of them. {HINT}"
        )
    return torch.cat([tensor.float() for tensor in tensors], dim=1)


def _side_by_side(parts: list[Tensor]) -> Tensor:
    """One part as it is; of several each as a unit vector, so that all count alike."""
    if len(parts) == 1:
        return parts[0]
    lengths = [len(part) for part in parts]
    if len(set(lengths)) > 1:
        raise FeatureError(f"Expected as many rows from all parts of the features, but got {lengths}. {HINT}")
    return torch.cat([nn.functional.normalize(part.float()) for part in parts], dim=1)


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


def _remember(seen: dict[str, tuple[Any, Any]], part: str) -> Callable[..., None]:
    """A hook that keeps the first input of a layer and its output, both as they are now: more may happen in place."""

    def hook(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        first = args[0] if args else next(iter(kwargs.values()), None)
        seen[part] = (_copied(first), _copied(output))

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
