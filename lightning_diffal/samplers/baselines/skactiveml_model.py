"""The model that a round has trained, as a classifier of scikit-activeml."""

from __future__ import annotations

from typing import Any

import numpy as np

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.samplers.baselines.linear_head import LinearHead
from lightning_diffal.samplers.points import row_keys
from lightning_diffal.utils.aliases import FloatArray
from lightning_diffal.utils.extras import require

__all__ = ["trained_model"]


def trained_model(features: FloatArray, probabilities: FloatArray, head: LinearHead) -> Any:
    """A fitted classifier that knows the model's probabilities by features.

    Rows of `features` get their own probabilities, all others what `head` gives. It cannot be trained.

    Args:
        features: `(N, D)`.
        probabilities: `(N, C)`.
        head: for rows that are not among the features.

    Returns:
        A `skactiveml.base.SkactivemlClassifier`.
    """
    skactiveml = require("skactiveml.base", extra="skactiveml")
    keys = row_keys(features)
    order = np.argsort(keys, kind="stable")

    class TrainedModel(skactiveml.SkactivemlClassifier):  # type: ignore[misc, name-defined]  # scikit-activeml is imported where it is used
        """Looks predictions up."""

        def __init__(
            self, classes: Any = None, missing_label: Any = np.nan, cost_matrix: Any = None, random_state: Any = None
        ) -> None:
            super().__init__(classes, missing_label, cost_matrix, random_state)

        def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:  # noqa: N803 - scikit-activeml's names
            raise ConfigurationError("it would train the classifier itself, which the model of the run is not for")

        def predict_proba(self, X: Any) -> Any:  # noqa: N803 - scikit-activeml's names
            rows = np.asarray(X, np.float32)
            place = np.searchsorted(keys[order], row_keys(rows))
            found = order[np.minimum(place, len(order) - 1)]
            is_known = (features[found] == rows).all(axis=1)
            result = np.where(is_known[:, None], probabilities[found], head.probabilities(rows)).astype(np.float64)
            return result / result.sum(axis=1, keepdims=True)

        def predict(self, X: Any) -> Any:  # noqa: N803 - scikit-activeml's names
            return self.predict_proba(X).argmax(axis=1)

    model = TrainedModel(classes=list(range(probabilities.shape[1])))
    model.classes_ = np.arange(probabilities.shape[1])
    model.n_features_in_ = features.shape[1]
    return model
