"""When to stop: rules for `ActiveLearning(stopping=...)`.

A rule looks at the history after each round, before the next query is bought, and says why to stop, or `None`. All that
a rule goes by stands in the history, so a killed run stops after the same round as one that was not. Several rules in a
list stop the run as soon as one of them says so; `|` and `&` combine them otherwise:

    stopping=StablePredictions() & Budget(100)       # once predictions are stable, but not before 100 labels
    stopping=TargetMetric("val_acc", 0.95) | Budget(500)

Any function `history -> reason or None` is a rule too. An empty pool, `max_rounds`, `budget` and `max_time` of
`ActiveLearning` end a run without a rule. After a rule has ended one, raise what it asks for or set
`active.stopping = ()`, and `fit` goes on.
"""

from lightning_diffal.stopping.base import KAPPA, AllOf, AnyOf, StoppingRule
from lightning_diffal.stopping.rules import Budget, Explored, ExploredAndStable, StablePredictions, TargetMetric

__all__ = [
    "KAPPA",
    "AllOf",
    "AnyOf",
    "Budget",
    "Explored",
    "ExploredAndStable",
    "StablePredictions",
    "StoppingRule",
    "TargetMetric",
]
