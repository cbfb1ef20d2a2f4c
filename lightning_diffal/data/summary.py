"""A data module as a notebook shows it."""

from __future__ import annotations

import html
from collections.abc import Sequence

from lightning_diffal.labels.pool import LabelledPool

__all__ = ["pool_html"]

_CLASSES = 20


def pool_html(pool: LabelledPool, name: str, num_classes: int | None, class_names: Sequence[str] | None) -> str:
    """How many points are labelled, asked and left, and labels by class. Names are shown whatever they contain.

    Args:
        pool: who is labelled.
        name: of the data module's class.
        num_classes: how many classes there are; `None` where nobody knows yet.
        class_names: names of the classes.

    Example:
        >>> pool = LabelledPool(5)
        >>> pool.label([0, 3], [0, 1], round_=0)
        >>> "<td>labelled</td><td>2</td>" in pool_html(pool, "Data", 2, ["cat", "dog"])
        True
    """
    counts = [
        ("points", len(pool)),
        ("labelled", len(pool.labelled_indices)),
        ("bought by runs", pool.n_bought),
        ("in the pool", len(pool.pool_indices)),
        ("waiting for an answer", len(pool.pending_indices)),
        ("skipped", len(pool.skipped_indices)),
    ]
    rows = [f"<tr><td>{words}</td><td>{count:,}</td></tr>" for words, count in counts if count or words == "labelled"]
    labels = list(pool.labels_of(pool.labelled_indices).values())
    if labels and num_classes:
        held = [[c for c, has in enumerate(label) if has] if isinstance(label, tuple) else [label] for label in labels]
        known = [sum(c in classes for classes in held) for c in range(num_classes)]
        names = [str(n) for n in class_names] if class_names is not None else [str(c) for c in range(num_classes)]
        for title, count in list(zip(names, known, strict=False))[:_CLASSES]:
            rows.append(f"<tr><td>class {html.escape(title)}</td><td>{count:,}</td></tr>")
        if num_classes > _CLASSES:
            rows.append(f"<tr><td>{num_classes - _CLASSES} more classes</td><td></td></tr>")
    return f"<p><b>{html.escape(name)}</b></p><table>{''.join(rows)}</table>"
