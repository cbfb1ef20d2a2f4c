"""Pseudo-labelled points that join the training of one round: kept with the run, drawn anew for each round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lightning_diffal.labels.events import positions_of
from lightning_diffal.pseudo_labels.rule import PseudoLabelled
from lightning_diffal.utils.aliases import IntArray

__all__ = ["JoinedPoints", "draw_joined", "pseudo_figures", "pseudo_state"]


@dataclass(frozen=True)
class JoinedPoints:
    """Points that train beside the labelled ones.

    Args:
        labels: the pseudo-label of each, by position in the data set.
        labelled_share: how much of an epoch the labelled points make up.
    """

    labels: Mapping[int, int]
    labelled_share: float

    def labels_beside(self, labelled: IntArray) -> dict[int, int]:
        """The pseudo-labels of points that are not labelled.

        Args:
            labelled: `(L,)` positions; somebody may have labelled points since the pseudo-labels were chosen.
        """
        known = set(labelled.tolist())
        return {index: label for index, label in self.labels.items() if index not in known}

    def places(self, trained: IntArray, labelled: IntArray) -> IntArray:
        """What an epoch goes over: the labelled points, once or repeated, and then the joined ones.

        Args:
            trained: `(T,)` labelled points that train.
            labelled: `(L,)` all labelled points, those that validate too.

        Example:
            >>> JoinedPoints({7: 1, 4: 0, 9: 1}, labelled_share=0.65).places(np.array([2, 5]), np.array([2, 5, 9]))
            array([2, 5, 2, 5, 7, 4])
        """
        joined = np.array(list(self.labels_beside(labelled)), dtype=np.int64)
        odds = self.labelled_share / (1 - self.labelled_share)
        times = max(1, round(odds * len(joined) / max(1, len(trained))))
        return np.concatenate([np.tile(trained, times), joined])


def pseudo_state(chosen: PseudoLabelled, labelled_share: float, ids: Sequence[str] | None) -> dict[str, Any]:
    """Pseudo-labels as a checkpoint holds them: all that were chosen, with their weights.

    Args:
        chosen: the points.
        labelled_share: how much of an epoch the labelled points make up.
        ids: stable ids of all points, where there are such.

    Example:
        >>> chosen = PseudoLabelled(np.array([3]), np.array([0]), np.array([0.5], np.float32))
        >>> pseudo_state(chosen, 0.5, None)["weights"]
        tensor([0.5000])
    """
    return {
        "indices": torch.from_numpy(chosen.indices.copy()),
        "labels": torch.from_numpy(chosen.labels.copy()),
        "weights": torch.from_numpy(chosen.weights.copy()),
        "labelled_share": float(labelled_share),
        "ids": None if ids is None else [ids[i] for i in chosen.indices.tolist()],
    }


def draw_joined(
    saved: Mapping[str, Any] | None, ids: Sequence[str] | None, generator: np.random.Generator
) -> JoinedPoints | None:
    """Let each pseudo-labelled point join with the probability that is its weight.

    Args:
        saved: what `pseudo_state` gave, or `None` for no pseudo-labels.
        ids: stable ids of all points now; points are found by them where the data set was reordered.
        generator: of this draw alone, so that a resumed round draws the same points.

    Returns:
        Those that join, or `None`.

    Raises:
        ResumeError: a point is not in the data set any more.

    Example:
        >>> chosen = PseudoLabelled(np.array([3, 5]), np.array([0, 1]), np.array([1.0, 1e-9], np.float32))
        >>> draw_joined(pseudo_state(chosen, 0.5, None), None, np.random.default_rng(0)).labels
        {3: 0}
    """
    if saved is None:
        return None
    positions = positions_of({"indices": saved["indices"].tolist(), "ids": saved["ids"]}, ids)
    joins = generator.random(len(positions)) < saved["weights"].numpy()
    pairs = zip(positions, saved["labels"].tolist(), joins.tolist(), strict=True)
    return JoinedPoints({index: label for index, label, takes_part in pairs if takes_part}, saved["labelled_share"])


def pseudo_figures(saved: Mapping[str, Any] | None) -> dict[str, float]:
    """How many points have a pseudo-label, and what they weigh together: as many are expected to join.

    Example:
        >>> pseudo_figures(None)
        {'n_pseudo_labelled': 0.0, 'pseudo_label_weight': 0.0}
    """
    count, weight = (0, 0.0) if saved is None else (len(saved["indices"]), float(saved["weights"].double().sum()))
    return {"n_pseudo_labelled": float(count), "pseudo_label_weight": weight}
