"""Pseudo-labels in a run: chosen after the answers of a query have arrived, for the next round to train upon."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lightning_diffal.data.loader_checks import check_pseudo_labels
from lightning_diffal.pseudo_labels.joined import draw_joined, pseudo_state
from lightning_diffal.pseudo_labels.rule import PseudoLabelled, PseudoLabels, choose_pseudo_labels
from lightning_diffal.run.model_pass import ModelPass
from lightning_diffal.samplers import DiffusionSampler
from lightning_diffal.utils.seeding import generator_of

if TYPE_CHECKING:
    from lightning_diffal.callback import ActiveLearning

__all__ = ["join_pseudo_labels", "renew_pseudo_labels"]

_PSEUDO_LABELS = 3  # place in the run that draws random numbers from a generator of its own


def renew_pseudo_labels(active: ActiveLearning, model_pass: ModelPass) -> None:
    """Choose the pseudo-labels that the next round trains upon, by features of the model that has trained last.

    The features are those of the query where this fit has read them; else they are read again, by the same weights.
    Before anything has trained there are none, and none while labels are few (`PseudoLabels.min_labels`).

    Args:
        active: the run, after all answers have arrived.
        model_pass: of that model.

    Raises:
        ConfigurationError: multi-label targets.
    """
    rule, state, data = active.pseudo_labels, active.state, active.data
    state.pseudo_labels = None
    if rule is None:
        return
    check_pseudo_labels(data)
    num_classes = data.num_classes or len(np.unique(data.labels))
    if not state.has_trained or len(data.train_indices) < rule.begins_at(num_classes):
        return
    features = model_pass.rows(frozenset({"features"}))["features"]
    with model_pass.timed("pseudo_labels"):
        chosen = active.ranks.decide(lambda: _choose(active, rule, features))
    state.pseudo_labels = pseudo_state(chosen, rule.labelled_share, data.pool.ids)


def _choose(active: ActiveLearning, rule: PseudoLabels, features: npt.NDArray[np.float32] | None) -> PseudoLabelled:
    assert features is not None, "gathered on the first process"
    data, sampler = active.data, active.sampler
    # labels of points that validate stay out of training, and so do the points themselves if they were labelled
    trained = data.train_indices
    is_known = np.isin(data.labelled_indices, trained, assume_unique=True)
    others = np.setdiff1d(np.arange(len(data.pool)), data.labelled_indices, assume_unique=True)
    kept = None
    if isinstance(sampler, DiffusionSampler):
        kept = sampler.kept_graph(features, rule.n_neighbors, rule.metric, rule.backend)
    return choose_pseudo_labels(
        features,
        trained,
        data.labels[is_known],
        data.num_classes,
        rule,
        candidates=others[~data.validates(others)],
        graph=kept,
    )


def join_pseudo_labels(active: ActiveLearning) -> None:
    """Show the data module the pseudo-labelled points that train in this round: every time the same for a round.

    Args:
        active: the run, about to train a round.
    """
    state, data = active.state, active.data
    generator = generator_of(state.seed, _PSEUDO_LABELS, state.round)
    data.joined_points = draw_joined(state.pseudo_labels, data.pool.ids, generator)
