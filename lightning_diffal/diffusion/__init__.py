"""Label diffusion: what the labelled points say about every other point, and how firmly. Pure equations.

Arrays in, arrays out: no torch, no Lightning, no samplers. The graph that labels diffuse on is made in `graph`.
"""

from __future__ import annotations

from lightning_diffal.diffusion.equations import (
    DEFAULT_N_STEPS,
    LabelSummary,
    diffuse_asked,
    diffuse_labels,
    label_equivalents,
    label_margin,
    label_reach,
    label_summary,
    multilabel_summary,
)

__all__ = [
    "DEFAULT_N_STEPS",
    "LabelSummary",
    "diffuse_asked",
    "diffuse_labels",
    "label_equivalents",
    "label_margin",
    "label_reach",
    "label_summary",
    "multilabel_summary",
]
