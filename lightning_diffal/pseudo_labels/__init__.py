"""Pseudo-labels: which points get one, and how they join the training of a round.

The rule is a pure function of features and labels. When it is applied, and to which model's features, is decided in
`run`.
"""

from __future__ import annotations

from lightning_diffal.pseudo_labels.rule import PseudoLabelled, PseudoLabels, choose_pseudo_labels, relative_margin

__all__ = ["PseudoLabelled", "PseudoLabels", "choose_pseudo_labels", "relative_margin"]
