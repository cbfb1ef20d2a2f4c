"""Any pool strategy of scikit-activeml as a sampler. Needs the extra `skactiveml`."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError
from lightning_diffal.samplers.base import Query, QueryData, QuerySampler
from lightning_diffal.samplers.baselines.linear_head import fit_linear_head
from lightning_diffal.samplers.baselines.uncertainty import checked_probabilities
from lightning_diffal.samplers.points import check_count, check_features
from lightning_diffal.utils.aliases import FloatArray
from lightning_diffal.utils.extras import require

__all__ = ["SkactivemlSampler"]

_CLASSIFIER_ARGUMENTS = ("clf", "estimator")
_ALWAYS_GIVEN = ("self", "X", "y", "candidates", "batch_size", "return_utilities")


class SkactivemlSampler(QuerySampler):
    """Asks what a pool strategy of scikit-activeml chooses, in the loop, beside all other samplers.

    `X` are the features and `y` the known labels. Where the strategy reads a classifier (`clf`), it reads the
    probabilities of the model that has just been trained; for points that the strategy makes up, such as DropQuery's,
    those of its last layer (see `lightning_diffal.samplers.baselines.linear_head.fit_linear_head`). A strategy that
    trains the classifier itself, such as ExpectedErrorReduction, needs a `classifier` of scikit-learn or
    scikit-activeml, which is then trained on the labelled features in each query. Pending points are not asked again;
    scikit-activeml knows no points that are asked and not answered, so they count as unlabelled, not as covered.

    Time and memory are the strategy's own: many hold all pairs of points. Scores are its utilities at the time of each
    pick.

    Args:
        strategy: an instance, or the name of a class of `skactiveml.pool` that is made without arguments. `None`:
            `"UncertaintySampling"`. It is copied and seeded anew in each query.
        classifier: what `clf` is instead of the trained model: a classifier of scikit-activeml, or one of scikit-learn
            with `predict_proba`.
        query_arguments: more for the strategy's `query`, such as `{"ensemble": [...]}` for QueryByCommittee.

    Raises:
        MissingExtraError: scikit-activeml is not installed.
        InvalidTypeError: `strategy` is not a pool strategy for one annotator.
        ConfigurationError: an unknown name, arguments that its `query` needs and nobody gives, or a strategy that needs
            a `classifier`.

    Example:
        >>> data = QueryData(features=np.array([[0.0], [1.0], [6.0], [10.0]]), labelled=[0], labels=[0], num_classes=2)
        >>> SkactivemlSampler("CoreSet").select(data, 2, np.random.default_rng(0)).indices
        array([3, 2])
    """

    stochastic: bool = True

    def __init__(
        self,
        strategy: Any = None,
        *,
        classifier: Any = None,
        query_arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.strategy = _checked_strategy("UncertaintySampling" if strategy is None else strategy)
        self.classifier = classifier
        self.query_arguments = dict(query_arguments or {})
        wrapped = getattr(self.strategy, "query_strategy", None)
        parameters = inspect.signature((self.strategy if wrapped is None else wrapped).query).parameters
        reads = [name for name in _CLASSIFIER_ARGUMENTS if name in parameters and name not in self.query_arguments]
        self._classifier_argument = reads[0] if reads else None
        if self._classifier_argument is not None and classifier is None:
            self.requires = frozenset({"features", "probabilities"})
        else:  # nothing of the model
            self.requires = frozenset({"features"})
        missing = [
            name
            for name, parameter in parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind is not parameter.VAR_KEYWORD
            and name not in (*_ALWAYS_GIVEN, *_CLASSIFIER_ARGUMENTS, *self.query_arguments)
        ]
        if missing:
            raise ConfigurationError(
                f"Expected argument `query_arguments` to hold {', '.join(missing)}, which the query of "
                f"{type(self.strategy).__name__} needs, but got {sorted(self.query_arguments)}."
            )
        if "probabilities" in self.requires:
            self._rehearse()

    def select(self, data: QueryData, query_size: int, generator: np.random.Generator) -> Query:
        """Choose `min(query_size, M)` of the candidates.

        Args:
            data: needs what `requires` names.
            query_size: how many points to choose.
            generator: draws one key per point of the data set, which orders it, then the strategy's random state.

        Returns:
            The chosen points in the order of choice.

        Raises:
            ConfigurationError: no features or probabilities, a `query_size` below 1, multi-label targets, or a strategy
                that answers with other points than it was given.
        """
        check_count("query_size", query_size)
        features = check_features(data)
        if data.is_multilabel:
            raise ConfigurationError(
                f"{type(self.strategy).__name__} of scikit-activeml takes one class per point, but got multi-label "
                "targets. Use a sampler of lightning_diffal.samplers."
            )
        order = np.argsort(generator.random(data.num_points), kind="stable")
        seed = int(generator.integers(2**31 - 1))
        if not len(data.candidates):
            return Query(np.empty(0, np.int64), np.empty(0, np.float32))
        row = np.empty_like(order)
        row[order] = np.arange(len(order))
        items = features[order]
        labels = np.full(data.num_points, np.nan)
        labels[row[data.labelled]] = data.labels
        candidates = np.sort(row[data.candidates])
        size = min(query_size, len(candidates))
        reads_model = "probabilities" in self.requires
        given = self._classifier_arguments(items, checked_probabilities(data)[order] if reads_model else None, data)
        chosen, utilities = self._ask(items, labels, candidates, size, seed, given)
        picked = np.asarray(chosen, dtype=np.int64).reshape(-1)
        if len(picked) != size or len(np.unique(picked)) != size or not np.isin(picked, candidates).all():
            raise ConfigurationError(
                f"Expected {type(self.strategy).__name__} of scikit-activeml to choose {size} of the candidates, each "
                f"once, but got {len(picked)} points, {int(np.isin(picked, candidates).sum())} of them candidates."
            )
        return Query(order[picked], _scores(np.asarray(utilities, np.float64), picked))

    def _ask(
        self, items: FloatArray, labels: Any, candidates: Any, size: int, seed: int, given: dict[str, Any]
    ) -> tuple[Any, Any]:
        # some clusterings inside strategies draw from numpy's global state, whatever random state they are given
        from lightning_diffal.utils.seeding import isolated_random_state  # imports torch, which takes seconds

        with isolated_random_state(seed):
            answer: tuple[Any, Any] = _seeded(self.strategy, seed).query(
                X=items.astype(np.float64),
                y=labels,
                candidates=candidates,
                batch_size=size,
                return_utilities=True,
                **given,
                **copy.deepcopy(self.query_arguments),
            )
        return answer

    def _classifier_arguments(
        self, items: FloatArray, probabilities: FloatArray | None, data: QueryData
    ) -> dict[str, Any]:
        name = self._classifier_argument
        if name is None:
            return {}
        if probabilities is None:
            return {name: _with_classes(self.classifier, max(2, data.num_classes))}
        from lightning_diffal.samplers.baselines.skactiveml_model import trained_model

        model = trained_model(items, probabilities, fit_linear_head(items, probabilities))
        return {name: model, f"fit_{name}": False}

    def _rehearse(self) -> None:
        """Find out on a few points whether the strategy can do with probabilities, before anything is trained."""
        generator = np.random.default_rng(0)
        items = generator.normal(size=(12, 2)).astype(np.float32)
        data = QueryData(features=items, labelled=np.arange(4), labels=np.arange(4) % 2, num_classes=2)
        given = self._classifier_arguments(items, generator.dirichlet(np.ones(2), 12).astype(np.float32), data)
        labels = np.append(np.arange(4) % 2, np.full(8, np.nan))
        unfitted = require("sklearn.exceptions", extra="skactiveml").NotFittedError
        try:
            self._ask(items, labels, np.arange(4, 12), 1, 0, given)
        except (TypeError, unfitted, ConfigurationError) as error:
            raise ConfigurationError(
                f"{type(self.strategy).__name__} of scikit-activeml needs more of a classifier than the probabilities "
                f"of the trained model ({error}). Give one: SkactivemlSampler(strategy, "
                "classifier=LogisticRegression()), or a classifier of skactiveml.classifier."
            ) from None
        except ValueError:
            pass  # settings that fit other data, such as a cost matrix for more classes


def _checked_strategy(strategy: Any) -> Any:
    pool = require("skactiveml.pool", extra="skactiveml")
    base = require("skactiveml.base", extra="skactiveml").SingleAnnotatorPoolQueryStrategy
    if isinstance(strategy, str):
        kinds = {
            name: kind
            for name in pool.__all__
            if inspect.isclass(kind := getattr(pool, name)) and issubclass(kind, base)
        }
        if strategy not in kinds:
            raise ConfigurationError(
                f"Expected argument `strategy` to be one of {', '.join(sorted(kinds))}, but got {strategy!r}."
            )
        try:
            return kinds[strategy]()
        except TypeError as error:
            raise ConfigurationError(
                f"The strategy {strategy!r} of scikit-activeml needs arguments ({error}): "
                "make it yourself and give the instance."
            ) from None
    if not isinstance(strategy, base):
        raise InvalidTypeError(
            "Expected argument `strategy` to be a pool strategy of scikit-activeml for one annotator, or the name of "
            f"one, but got {strategy!r}."
        )
    return strategy


def _seeded(strategy: Any, seed: int) -> Any:
    """A fresh copy, every random state in it set."""
    fresh = require("sklearn.base", extra="skactiveml").clone(strategy)
    names = [name for name in fresh.get_params(deep=True) if name.rpartition("__")[2] == "random_state"]
    return fresh.set_params(**dict.fromkeys(names, seed))


def _with_classes(classifier: Any, num_classes: int) -> Any:
    """A fresh copy that knows all classes, also those without a label."""
    fresh = require("sklearn.base", extra="skactiveml").clone(classifier)
    skactiveml = require("skactiveml.classifier", extra="skactiveml")
    classes = list(range(num_classes))
    if not isinstance(fresh, require("skactiveml.base", extra="skactiveml").SkactivemlClassifier):
        return skactiveml.SklearnClassifier(fresh, classes=classes, random_state=0)
    return fresh.set_params(classes=classes) if fresh.classes is None else fresh


def _scores(utilities: Any, picked: Any) -> FloatArray:
    """The utility of each pick when it was picked; largest or smallest finite numbers where it is infinite."""
    values = utilities.reshape(len(picked), -1)[np.arange(len(picked)), picked]
    limit = float(np.finfo(np.float32).max)
    scores: FloatArray = np.clip(np.nan_to_num(values, nan=0.0, posinf=limit, neginf=-limit), -limit, limit)
    return scores.astype(np.float32)
