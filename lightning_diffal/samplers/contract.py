"""What every sampler has to keep, as a test that anyone can run over their own."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from lightning_diffal.samplers.base import Query, QueryData, QuerySampler
from lightning_diffal.utils.aliases import IntArray

__all__ = ["PermutedGenerator", "check_query_sampler"]

Values = dict[str, Any]

_N, _D, _C = 60, 4, 3


class PermutedGenerator(np.random.Generator):
    """A generator whose per-point keys follow a permutation of the data set.

    `random(N)` (and any array whose first axis is `N`) is drawn as `np.random.default_rng(seed)` draws it, then
    reordered: point `i` of the permuted data set gets the key of point `permutation[i]` of the original one. Other
    draws are as usual, so a sampler whose choice depends on them, beyond ties, is `stochastic`.

    Args:
        seed: of `np.random.default_rng`.
        permutation: `(N,)` which original point each new point is.

    Example:
        >>> keys = np.random.default_rng(0).random(3)
        >>> bool((PermutedGenerator(0, np.array([2, 0, 1])).random(3) == keys[[2, 0, 1]]).all())
        True
    """

    def __init__(self, seed: int, permutation: IntArray) -> None:
        super().__init__(np.random.PCG64(seed))
        self._permutation = permutation

    def random(self, *args: Any, **kwargs: Any) -> Any:
        """As `np.random.Generator.random`, rows permuted where there is one per point."""
        values = super().random(*args, **kwargs)
        permute = np.ndim(values) > 0 and len(values) == len(self._permutation)
        return values[self._permutation] if permute else values


def check_query_sampler(sampler: QuerySampler) -> None:
    """Check that a sampler keeps the contract of `QuerySampler`.

    Small data sets of random features and probabilities are put to it, showing what it `requires` and then also what it
    `wants`. Checked are: exactly `min(b, M)` points, all
    of them candidates, none twice, with finite scores; the same answer for the same generator state and data, and no
    other source of randomness; inputs left alone, the global random state too; two rounds in a row; labelled points
    anywhere in the data set; pending points; no label at all; one class; equal points; features of one dimension; a
    data set of one point; a query larger than the pool; an empty pool. Unless the sampler says that it is
    `stochastic`: permuting the data set, and the keys that `generator.random(N)` draws with it, permutes the answer.

    Args:
        sampler: an instance, as it would be handed to a trainer; it must survive `copy.deepcopy`.

    Raises:
        AssertionError: a rule that the sampler breaks, in a sentence.

    Example:
        >>> from lightning_diffal.samplers import MarginSampler
        >>> check_query_sampler(MarginSampler())
    """
    name = type(sampler).__name__
    known = {"features", "probabilities", "mc_probabilities"}
    requires = getattr(sampler, "requires", None)
    assert isinstance(requires, (frozenset, set)), f"{name}.requires is not a frozenset of names: {requires!r}."
    assert requires <= known, f"{name}.requires names {sorted(requires - known)}; a loop offers {sorted(known)}."
    pristine = copy.deepcopy(sampler)
    for shown in _offers(sampler, known):
        for case, values in _cases().items():
            for size in (1, 7, 3 * _N):
                _check_case(sampler, case, values, size, shown)
        _check_rounds(sampler, pristine, shown)
        if not getattr(sampler, "stochastic", False):
            for case in ("a non-prefix labelled set", "no label at all", "pending points"):
                for size in (6, _N - 10):
                    _check_permutation(sampler, case, _cases()[case], size, shown)


def _offers(sampler: QuerySampler, known: set[str]) -> list[frozenset[str]]:
    """What a loop may show: what is required, and what is wanted besides for small batches and for large ones.

    The last batch of a budget is smaller than those that `wants` was asked about, so every size meets every offer.
    """
    name = type(sampler).__name__
    offers = [frozenset(sampler.requires)]
    for size in (1, 3 * _N):
        wanted = sampler.wants(size)
        assert isinstance(wanted, (frozenset, set)), f"{name}.wants gave {wanted!r} and not a frozenset of names."
        assert wanted <= known, f"{name}.wants names {sorted(wanted - known)}; a loop offers {sorted(known)}."
        assert wanted >= sampler.requires, (
            f"{name}.wants leaves out {sorted(sampler.requires - wanted)}, which `requires` names: "
            "start from `self.requires`."
        )
        if wanted not in offers:
            offers.append(frozenset(wanted))
    return offers


def _cases() -> dict[str, Values]:
    generator = np.random.default_rng(20)
    features = generator.normal(size=(_N, _D)).astype(np.float32)
    logits = generator.normal(size=(_N, _C))
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    entropies = generator.uniform(0, 0.5, size=(_N, 1)).astype(np.float32)
    base: Values = {
        "features": features,
        "probabilities": probabilities,
        "mc_probabilities": np.hstack([probabilities, entropies]),
        "num_classes": _C,
    }
    chosen = np.array([37, 5, 51, 18, 22])
    labels = np.array([2, 0, 1, 1, 0])
    others = np.setdiff1d(np.arange(_N), chosen)
    halves = np.full((_N, _C), 1 / _C, np.float32)
    return {
        "a non-prefix labelled set": {**base, "labelled": chosen, "labels": labels},
        "no label at all": base,
        "pending points": {**base, "labelled": chosen, "labels": labels, "pending": np.array([40, 2, 11])},
        "few candidates": {**base, "labelled": chosen, "labels": labels, "candidates": np.array([50, 3, 19, 8])},
        "one class": {**base, "labelled": chosen, "labels": np.zeros_like(labels)},
        "equal points": {
            **base,
            "features": np.ones_like(features),
            "probabilities": halves,
            "mc_probabilities": np.hstack([halves, 0 * entropies]),
            "labelled": chosen,
            "labels": labels,
        },
        "one dimension": {**base, "features": features[:, :1], "labelled": chosen, "labels": labels},
        "probabilities of 0 and 1": {**base, "probabilities": np.eye(_C, dtype=np.float32)[np.arange(_N) % _C]},
        "an empty pool": {**base, "labelled": chosen, "labels": labels, "pending": others},
        "one candidate left": {**base, "labelled": chosen, "labels": labels, "candidates": others[-1:]},
        "one point": {name: value if name == "num_classes" else value[:1] for name, value in base.items()},
    }


def _data(values: Values, shown: frozenset[str]) -> QueryData:
    """Only what a loop would show."""
    fields = dict(values)
    num_points = len(values["features"])
    for optional in ("features", "probabilities", "mc_probabilities"):
        if optional not in shown:
            del fields[optional]
        else:
            fields[optional] = fields[optional].copy()
    return QueryData(num_points=num_points, **fields)


def _check_case(sampler: QuerySampler, case: str, values: Values, size: int, shown: frozenset[str]) -> None:
    name = type(sampler).__name__
    data = _data(values, shown)
    before = _snapshot(data)
    state = _global_random_state()
    query = sampler.select(data, size, np.random.default_rng(7))
    assert _global_random_state() == state, (
        f"{name} changed the global random state ({case}): draw from `generator` only."
    )
    _check_answer(name, case, data, query, size)
    for field, value in _snapshot(data).items():
        assert np.array_equal(value, before[field]), f"{name} changed `data.{field}` ({case}): copy before writing."
    again = sampler.select(_data(values, shown), size, np.random.default_rng(7))
    assert np.array_equal(query.indices, again.indices), (
        f"{name} answered differently to the same data and seed ({case}): "
        "draw from `generator` only and keep nothing that changes the choice."
    )


def _check_answer(name: str, case: str, data: QueryData, query: Query, size: int) -> None:
    assert isinstance(query, Query), f"{name}.select returned {type(query).__name__} and not a Query ({case})."
    expected = min(size, len(data.candidates))
    inside = np.isin(query.indices, data.candidates)
    assert inside.all(), (
        f"{name} chose {query.indices[~inside][:5].tolist()}, which are not candidates ({case}): "
        "indices are positions in the full data set, not in the pool."
    )
    assert len(np.unique(query.indices)) == len(query), f"{name} chose a point twice ({case})."
    assert len(query) == expected, (
        f"{name} chose {len(query)} points where {expected} were due: {size} asked, "
        f"{len(data.candidates)} candidates ({case})."
    )
    assert np.isfinite(query.scores).all(), f"{name} gave scores that are not finite ({case})."


def _check_rounds(sampler: QuerySampler, pristine: QuerySampler, shown: frozenset[str]) -> None:
    """Two rounds: the answer is labelled and the sampler asked again; what it saw in between leaves no trace."""
    name = type(sampler).__name__
    values = _cases()["a non-prefix labelled set"]
    first = sampler.select(_data(values, shown), 6, np.random.default_rng(1))
    truth = np.arange(_N) % _C
    grown = {
        **values,
        "labelled": np.concatenate([values["labelled"], first.indices]),
        "labels": np.concatenate([values["labels"], truth[first.indices]]),
    }
    data = _data(grown, shown)
    second = sampler.select(data, 6, np.random.default_rng(2))
    _check_answer(name, "the second round", data, second, 6)
    moved = {**grown, "features": -2 * grown["features"][::-1]}
    moved |= {field: grown[field][::-1] for field in ("probabilities", "mc_probabilities")}
    for other in (sampler, pristine):
        other.select(_data(moved, shown), 6, np.random.default_rng(3))
        again = other.select(_data(grown, shown), 6, np.random.default_rng(2))
        assert np.array_equal(second.indices, again.indices), (
            f"{name} remembered something of an earlier round: a resumed run would ask other points."
        )


def _check_permutation(sampler: QuerySampler, case: str, values: Values, size: int, shown: frozenset[str]) -> None:
    name = type(sampler).__name__
    permutation = np.random.default_rng(5).permutation(_N)
    position = np.argsort(permutation)  # of each original point in the permuted data set
    shuffle: dict[str, Callable[[Any], Any]] = {
        "features": lambda value: value[permutation],
        "probabilities": lambda value: value[permutation],
        "mc_probabilities": lambda value: value[permutation],
        "labelled": lambda value: position[value],
        "pending": lambda value: position[value],
    }
    permuted = {field: shuffle.get(field, lambda value: value)(value) for field, value in values.items()}
    query = sampler.select(_data(values, shown), size, np.random.default_rng(9))
    moved = sampler.select(_data(permuted, shown), size, PermutedGenerator(9, permutation))
    assert np.array_equal(position[query.indices], moved.indices), (
        f"{name} depends on the order of the data set ({case}): the permuted data gave other points. Break ties by "
        "one key per point (`generator.random(N)`, drawn first), or declare `stochastic = True`."
    )


def _global_random_state() -> tuple[str, ...]:
    _, keys, *place = np.random.get_state()  # noqa: NPY002 - read, and expected to stay
    import torch  # takes seconds, and a sampler may move its generator

    numpy_state = [*np.asarray(keys).tolist(), *place]  # most draws move the place only, and not the keys
    return repr(random.getstate()), repr(numpy_state), repr(torch.get_rng_state().tolist())


def _snapshot(data: QueryData) -> dict[str, npt.NDArray[Any]]:
    fields = ("features", "probabilities", "mc_probabilities", "labelled", "labels", "candidates", "pending")
    return {name: np.array(getattr(data, name)) for name in fields if getattr(data, name) is not None}
