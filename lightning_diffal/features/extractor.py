"""Features and probabilities of the whole data set, read in one pass."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_diffal._lightning import batch_to_device, feature_pass, pl, rank_zero_info
from lightning_diffal.exceptions import ConfigurationError, FeatureError
from lightning_diffal.features.calls import HINT, call_method, floating_tensors
from lightning_diffal.features.cut import Cut
from lightning_diffal.features.dropout import DropoutPasses
from lightning_diffal.features.fixed import Fixed, find_fixed
from lightning_diffal.features.functions import watched_arguments
from lightning_diffal.features.head import Head, Scores, find_head, find_scores, to_probabilities
from lightning_diffal.features.rows import (
    as_rows,
    check_n_rows,
    common_length,
    input_rows,
    penultimate_rows,
    side_by_side,
    single_tensors,
)
from lightning_diffal.features.running import ModelCall, find_call
from lightning_diffal.features.trees import Path, differing, mapped, without
from lightning_diffal.labels.targets import Target, without_target
from lightning_diffal.utils.aliases import FloatArray, IntArray
from lightning_diffal.utils.phases import announce
from lightning_diffal.utils.seeding import isolated_random_state

if TYPE_CHECKING:
    from lightning_diffal.data.datamodule import ActiveDataModule

__all__ = ["KNOWN_REQUIREMENTS", "FeatureExtractor"]

KNOWN_REQUIREMENTS = frozenset({"features", "probabilities", "mc_probabilities"})
"""What a sampler may require."""


_FIXED = "what does not train"  # the part of "auto" that stands beside the penultimate layer; no name of a submodule


def _in_memory(shape: tuple[int, int]) -> FloatArray:
    return np.empty(shape, np.float32)


class FeatureExtractor:
    """Reads features and probabilities of the data set, both in one pass.

    Args:
        features: `"auto"` (the penultimate layer, found by `find_head`), the name of a submodule (its output, as
            the mean over places or tokens where it has such), the name of a method of the model or of a
            submodule, or `"inputs"` (what the model is given, flattened; the model's own part of that name goes
            first). A method whose first parameter is called `batch` gets the whole batch; any other is called as
            `forward` is. Several of them, joined by `+`, are set side by side, each as a unit vector.
        head: the submodule whose input `"auto"` means, where that is said and not looked for.
    """

    def __init__(self, features: str = "auto", head: str | None = None) -> None:
        self.features = features
        self.parts = tuple(part.strip() for part in features.split("+"))
        self.head_name = head
        self.head: Head | None = None
        self.scores: Scores | None = None
        self.withheld: frozenset[str] = frozenset()
        """What `prepare` was asked for besides and did not find in the model."""
        self.penultimate_alone = False
        """Whether `"auto"` means the input of the head and nothing else, as a sampler may need it."""
        self.fixed: Fixed | None = None
        """What stands beside the penultimate layer, or in its place."""
        self._call: ModelCall | None = None
        self._label_paths: list[Path] = []

    def prepare(
        self,
        trainer: pl.Trainer,
        data: ActiveDataModule,
        required: frozenset[str],
        besides: frozenset[str] = frozenset(),
    ) -> int | None:
        """Read a few items before training, so that a model whose features cannot be found is refused early.

        Args:
            trainer: in a fit.
            data: where points come from.
            required: what has to be there.
            besides: what is read as well; where named features are all that can be found, that goes without it, and
                `withheld` says so.

        Returns:
            How many outputs the model has, where that was needed; else `None`.

        Raises:
            FeatureError: the model cannot be run, no penultimate layer was found, or `features` or `head` names
                nothing in the model, or no features.
            ConfigurationError: Monte-Carlo dropout is wanted of a model without dropout; or the model has another
                number of outputs than there are classes.
        """
        module = self._module(trainer)
        self._check_names(module)
        self.head = self.scores = self._call = None
        self.withheld, self.fixed = frozenset(), None
        wanted = required | besides
        if not wanted:
            return None
        data.warn_of_augmentation()
        groups = _groups(len(data.pool))
        size, batches, found = len(groups[0]), list[Any](), 0
        relabelled = self._relabelled(trainer, data, groups[0])

        def look(batch: Any) -> None:
            nonlocal found, wanted
            batches.append(batch)
            if len(batches) < len(groups):
                return
            first = batches[0]
            paths = _usual_paths(first, data.target) if relabelled is None else differing(first, relabelled)
            self._label_paths = paths
            try:
                self._find(module, batches, size, data.num_classes, wanted)
            except (FeatureError, ConfigurationError) as error:
                if "auto" in self.parts or not besides - required:
                    raise
                self.withheld, wanted = besides - required, required
                rank_zero_info(f"Points are chosen without the model's {' and '.join(sorted(self.withheld))}: {error}")
                self._find(module, batches, size, data.num_classes, wanted)
            rows = self._read(module, first, wanted)
            passes = self._dropout_passes(module, data, wanted, n_passes=2, seed=0)
            if passes is not None:
                passes.check(lambda: self._outputs(first))
            found = common_length(rows) if rows else size

        with isolated_random_state(0):
            self._go_over(trainer, data.pool_dataloader(np.concatenate(groups), batch_size=size), look)
        check_n_rows(found, size)
        return None if self.scores is None else max(self.scores.width, 2)  # a single output tells two classes apart

    def _check_names(self, module: nn.Module) -> None:
        for part in self.parts:
            if part not in ("auto", "inputs") and _named(module, part) is None:
                raise FeatureError(
                    f"Expected `features` to name a submodule or a method of {type(module).__name__}, "
                    f"but got {part!r}. {HINT}"
                )
        if self.head_name is not None and self.head_name not in dict(module.named_modules()):
            raise FeatureError(
                f"Expected `head` to name a submodule of {type(module).__name__}, but got {self.head_name!r}: "
                "see `[name for name, _ in model.named_modules()]`."
            )

    def _relabelled(self, trainer: pl.Trainer, data: ActiveDataModule, indices: IntArray) -> Any:
        """A batch that differs from the first one in its placeholders only; `None` where they can be of one kind only.

        Where it differs a batch holds labels, whatever a collate function makes of items.
        """
        batches: list[Any] = []
        try:
            with isolated_random_state(0):
                loader = data.pool_dataloader(indices, batch_size=len(indices), other_placeholder=True)
                self._go_over(trainer, loader, batches.append)
        except Exception:
            return None
        return batches[0]

    def _find(
        self, module: nn.Module, batches: list[Any], size: int, num_classes: int | None, wanted: frozenset[str]
    ) -> None:
        """How the model is run, which of its outputs are class scores, and what is before its head."""
        named = any(isinstance(_named(module, part), nn.Module) for part in self.parts if part != "auto")
        needs_scores = "auto" in self.parts or bool(wanted & {"probabilities", "mc_probabilities"})
        if needs_scores or (named and "features" in wanted):
            self._call = find_call(module, batches[0], self._label_paths, num_classes, returns=needs_scores)
        if needs_scores and self._call is not None:
            call = self._call
            self.scores = find_scores(module, lambda: call.returned(batches[0]), size, num_classes)
            if "auto" in self.parts and "features" in wanted:
                self.head = find_head(module, call, self.scores, batches, self.head_name)
                if self.head_name is None and not self.penultimate_alone and "inputs" not in self.parts:
                    self._find_fixed(module, call, batches)

    def _find_fixed(self, module: nn.Module, call: ModelCall, batches: list[Any]) -> None:
        assert self.head is not None
        assert self.scores is not None
        items = single_tensors([without(batch, self._label_paths) for batch in batches])
        self.fixed = find_fixed(module, call, self.scores.output, self.scores.width, batches, items, self.head.cut)
        if self.fixed is not None:
            place = "in place of" if self.fixed.alone else "beside"
            rank_zero_info(
                f"Points are compared by {self.fixed.told}, {place} the penultimate layer; "
                "`ActiveLearning(head=...)` names that layer where it alone is wanted."
            )

    def __call__(
        self,
        trainer: pl.Trainer,
        data: ActiveDataModule,
        indices: IntArray,
        wanted: frozenset[str],
        seed: int,
        *,
        mc_passes: int = 20,
        room: Callable[[tuple[int, int]], FloatArray] = _in_memory,
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
            room: makes an array of a shape to write features into. Default: in memory.

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
            rows = self._read(module, batch, wanted)
            if passes is not None:
                rows["mc_probabilities"] = passes.read(partial(self._outputs, batch))
            size = common_length(rows)
            for name, values in rows.items():
                if name not in found:
                    shape = (len(indices), values.shape[1])
                    found[name] = room(shape) if name == "features" else _in_memory(shape)
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
            self._go_over(trainer, data.pool_dataloader(indices), keep)
        check_n_rows(row, len(indices))
        if "probabilities" in found and self.scores is not None:
            # over all points at once: a few logits may look like probabilities by chance
            outputs = torch.from_numpy(found["probabilities"])
            found["probabilities"] = to_probabilities(
                outputs, are_logits=self.scores.returned_as_is, multilabel=data.pool.is_multilabel
            ).numpy()
        if "mc_probabilities" in found and passes is not None:
            found["mc_probabilities"] = passes.result(found["mc_probabilities"])
        return found

    def _module(self, trainer: pl.Trainer) -> pl.LightningModule:
        return trainer.lightning_module

    def _go_over(self, trainer: pl.Trainer, loader: DataLoader[Any], use: Callable[[Any], None]) -> None:
        """Show each batch, as `predict_step` would get it, with the model in evaluation mode."""
        with feature_pass(trainer):
            for batch in loader:
                use(batch_to_device(trainer, batch))

    def _read(self, module: nn.Module, batch: Any, wanted: frozenset[str]) -> dict[str, Tensor]:
        """Features, and outputs that probabilities will be made of, one row per item."""
        parts: dict[str, Tensor] = {}
        layers: dict[str, tuple[nn.Module, int]] = {}  # and which of its runs counts, from the last one
        for part in self._read_parts() if "features" in wanted else ():
            source = self._source(module, part)
            if isinstance(source, nn.Module):
                layers[part] = source, 1
                if part in (_FIXED, "auto"):
                    layers[part] = source, self._cut(part).from_end
            elif source is None:
                parts[part] = input_rows(batch, self._label_paths)
            else:
                parts[part] = as_rows(self._by_method(source, part, batch))
        rows: dict[str, Tensor] = {}
        if layers or "probabilities" in wanted:
            assert self._call is not None, "found in `prepare`"
            seen: dict[str, deque[Any]] = {}
            with ExitStack() as hooks:
                for part, (layer, runs) in layers.items():
                    if layer is module:  # the head is a parameter, which a function takes
                        seen[part] = hooks.enter_context(watched_arguments(self._cut(part).name, runs))
                        continue
                    seen[part] = deque(maxlen=runs)
                    hooks.callback(layer.register_forward_hook(_remember(seen[part]), with_kwargs=True).remove)
                returned = self._call(batch)
            for part in layers:
                parts[part] = self._rows_of(part, seen[part], returned)
            if "probabilities" in wanted:
                rows["probabilities"] = self._scores_in(returned)
        if parts:
            rows["features"] = side_by_side([parts[part] for part in self._read_parts()])
        return rows

    def _read_parts(self) -> tuple[str, ...]:
        """The parts of the features, with what `"auto"` was found to mean."""
        if self.fixed is None:
            return self.parts
        meant = (_FIXED,) if self.fixed.alone else (_FIXED, "auto")
        return tuple(name for part in self.parts for name in (meant if part == "auto" else (part,)))

    def _cut(self, part: str) -> Cut:
        """Where a part that was looked for is."""
        cut = self.fixed.cut if part == _FIXED and self.fixed is not None else None
        if cut is None:
            assert self.head is not None, "found in `prepare`"
            return self.head.cut
        return cut

    def _by_method(self, method: Any, part: str, batch: Any) -> Tensor:
        if part in ("predict_step", "validation_step", "test_step", "training_step"):
            owner: Any = method.__self__
            returned = ModelCall(owner, part, part, self._label_paths)(batch)
            if not returned:
                raise FeatureError(f"Expected `{part}` to return a tensor of features. {HINT}")
            return returned[0]
        return call_method(method, batch, self._label_paths)

    def _source(self, module: nn.Module, part: str) -> Any:
        """The layer or method that a part of the features comes from; None for the inputs."""
        if part == _FIXED and self.fixed is not None and self.fixed.cut is None:
            return None
        if part in (_FIXED, "auto"):
            cut = self._cut(part)
            return module if cut.side == "function" else module.get_submodule(cut.name)
        return _named(module, part)

    def _rows_of(self, part: str, seen: Sequence[Any], returned: list[Tensor]) -> Tensor:
        """What a layer was given or has given, one row per item."""
        if not seen:
            raise FeatureError(f"The layer that features come from did not run in `forward`. {HINT}")
        if part == "auto" and self.head is not None and self.head.cut.side == "function":
            return as_rows(seen[0][self.head.cut.leaves[0]])
        inputs, output = seen[0]
        if part in (_FIXED, "auto") and self.head is not None:
            return penultimate_rows(self._cut(part), inputs, output, returned[self.head.output])
        tensor = next(floating_tensors(output), None)
        if tensor is None:
            raise FeatureError(f"Expected {part!r} to return a tensor of features. {HINT}")
        return as_rows(tensor)

    def _dropout_passes(
        self, module: nn.Module, data: ActiveDataModule, wanted: frozenset[str], n_passes: int, seed: int
    ) -> DropoutPasses | None:
        if "mc_probabilities" not in wanted or self.scores is None:
            return None
        return DropoutPasses(
            module, n_passes, seed, are_logits=self.scores.returned_as_is, multilabel=data.pool.is_multilabel
        )

    def _outputs(self, batch: Any) -> Tensor:
        """What the model returns as class scores, one row per item."""
        assert self._call is not None, "found in `prepare`"
        return self._scores_in(self._call(batch))

    def _scores_in(self, returned: list[Tensor]) -> Tensor:
        assert self.scores is not None, "found in `prepare`"
        return returned[self.scores.output].reshape(-1, self.scores.width)


def _groups(n_points: int) -> list[IntArray]:
    """Positions of a few items, two by two (of a single one `squeeze` would leave no row), the first ones first."""
    size = min(2, n_points)
    starts = sorted({0, n_points // 3, n_points // 2, 2 * n_points // 3, n_points - size})
    groups = [np.arange(start, start + size) for start in starts if start + size <= n_points]
    return groups if len(groups) > 1 else [groups[0], groups[0][::-1]]


def _usual_paths(batch: Any, target: Target) -> list[Path]:
    """Where a batch holds labels if it keeps the places of its items."""
    if isinstance(batch, Mapping):
        left = without_target(batch, target)
        return [(key,) for key in batch if key not in left]
    if not isinstance(batch, tuple | list) or isinstance(target, str):
        return [(len(batch) - 1,)] if target == "auto" and isinstance(batch, tuple | list) and len(batch) == 2 else []
    return [(target % len(batch),)] if -len(batch) <= target < len(batch) else []


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


def _remember(seen: deque[tuple[Any, Any]]) -> Callable[..., None]:
    """A hook that keeps what a layer is given and gives, both as they are now: more may happen in place."""

    def hook(_module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        seen.append((mapped((args, kwargs), torch.clone), mapped(output, torch.clone)))

    return hook
