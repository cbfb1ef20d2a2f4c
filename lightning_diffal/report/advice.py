"""What to do next, from how the run went."""

from __future__ import annotations

from lightning_diffal.history.main_metric import is_better_when_lower, ranked_metrics
from lightning_diffal.history.tables import names_of
from lightning_diffal.report.run import RunView
from lightning_diffal.utils.counts import several

__all__ = ["next_steps"]

_LATEST = 3  # rounds that say whether labels still help
_FEW = 0.25  # of its even share


def next_steps(view: RunView, n_doubts: int) -> list[str]:
    """Sentences, the most urgent first.

    Args:
        view: the run.
        n_doubts: labels that are worth a second look.
    """
    history = view.history
    if not history:
        return []
    found = []
    if view.pending:
        where = history[-1].stop_reason or ""
        hint = f" ({where})" if "waiting" in where else ""
        found.append(
            f"{several(len(view.pending), 'point')} without an answer yet{hint}: give it, then run the script again."
        )
    if n_doubts:
        found.append(
            f"Look again at {several(n_doubts, 'label')} that the labels around "
            f"{'it' if n_doubts == 1 else 'them'} contradict: a wrong label costs more than a missing one."
        )
    found += _by_curve(view) + _by_classes(view) + _by_exploration(view)
    if view.skipped:
        found.append(
            f"{several(len(view.skipped), 'point')} skipped: if many look alike, a class for them may be missing."
        )
    return found


def _by_curve(view: RunView) -> list[str]:
    names = ranked_metrics(names_of(view.history, "metrics"))
    if not names:
        return [
            "No metric was logged: log one in validation_step or test_step, or the run cannot tell what labels bring."
        ]
    if names[0].startswith("train"):
        return ["Only metrics of training were logged, which rise with any labels: give a validation or test set."]
    counts, values = view.history.curve(names[0])
    if len(counts) <= _LATEST:
        return [f"Go on: after {len(counts)} rounds it is too early to say what further labels bring."]
    gain = float(values[-1] - values[-1 - _LATEST]) * (-1 if is_better_when_lower(names[0]) else 1)
    labels = int(counts[-1] - counts[-1 - _LATEST])
    spread = float(values.max() - values.min()) or 1.0
    amount = f"{100 * abs(gain):.1f} points" if values.min() >= 0 and values.max() <= 1 else f"{abs(gain):.3g}"
    if gain > 0.05 * spread:
        return [
            f"{names[0]} is still rising: the last {labels} labels brought {amount}. More rounds are likely to "
            "pay: raise max_rounds or budget and call fit again."
        ]
    return [
        f"{names[0]} has levelled off: the last {labels} labels brought {'no gain' if gain <= 0 else amount}. A larger "
        "model, longer training or cleaner labels may now bring more than further labels."
    ]


def _by_classes(view: RunView) -> list[str]:
    counts = view.class_counts()
    if len(counts) < 2:
        return []
    even = sum(counts.values()) / len(counts)
    few = [name for name, count in counts.items() if count < _FEW * even]
    if not few:
        return []
    named = ", ".join(f"{name} ({counts[name]})" for name in few[:5])
    more = f" and {len(few) - 5} more" if len(few) > 5 else ""
    return [f"Few labels of {named}{more}: if you know where such points are, label some by hand with data.label(...)."]


def _by_exploration(view: RunView) -> list[str]:
    shares = [
        r.query.summary["exploration_share"] for r in view.history if r.query and "exploration_share" in r.query.summary
    ]
    if not shares or shares[-1] != shares[-1]:
        return []
    if shares[-1] > 0.5:
        return [f"{shares[-1]:.0%} of the last query explored ground that no label reaches: much of the data is new."]
    return []
