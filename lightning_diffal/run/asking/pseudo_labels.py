"""Pseudo-labels in a run: chosen after the answers of a query have arrived, for the next round to train on."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lightning_diffal.data.loader_checks import check_pseudo_labels
from lightning_diffal.pseudo_labels.joined import draw_joined, pseudo_state
from lightning_diffal.pseudo_labels.rule import PseudoLabelled, PseudoLabels, choose_pseudo_labels
from lightning_diffal.run.asking.model_pass import ModelPass
from lightning_diffal.run.context import RunContext
from lightning_diffal.samplers import DiffusionSampler
from lightning_diffal.utils.seeding import generator_of

__all__ = ["join_pseudo_labels", "renew_pseudo_labels"]

_PSEUDO_LABELS = 3  # place in the run that draws random numbers from a generator of its own


def renew_pseudo_labels(context: RunContext, model_pass: ModelPass) -> None:
    """Choose the pseudo-labels that the next round trains on, by features of the model that has trained last.

    The features are those of the query where this fit has read them; else they are read again, by the same weights.
    Before anything has trained there are none, and none while labels are few (`PseudoLabels.min_labels`).

    Args:
        context: the run, after all answers have arrived.
        model_pass: of that model.

    Raises:
        ConfigurationError: multi-label targets.
    """
    rule, state, data = context.settings.pseudo_labels, context.state, context.data
    state.pseudo_labels = None
    if rule is None:
        return
    check_pseudo_labels(data)
    num_classes = data.num_classes or len(np.unique(data.labels))
    if not state.has_trained or len(data.train_indices) < rule.begins_at(num_classes):
        return
    features = model_pass.rows(frozenset({"features"}))["features"]
    with model_pass.timed("pseudo_labels"):
        chosen = context.ranks.decide(lambda: _choose(context, rule, features))
    state.pseudo_labels = pseudo_state(chosen, rule.labelled_share, data.pool.ids)


def _choose(context: RunContext, rule: PseudoLabels, features: npt.NDArray[np.float32] | None) -> PseudoLabelled:
    assert features is not None, "gathered on the first process"
    data, sampler = context.data, context.settings.sampler
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


def join_pseudo_labels(context: RunContext) -> None:
    """Show the data module the pseudo-labelled points that train in this round: every time the same for a round.

    Args:
        context: the run, about to train a round.
    """
    state, data = context.state, context.data
    generator = generator_of(state.seed, _PSEUDO_LABELS, state.round)
    data.joined_points = draw_joined(state.pseudo_labels, data.pool.ids, generator)
