"""What a stopping rule is, and how several are combined."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError
from lightning_diffal.history.history import History

__all__ = ["KAPPA", "STOP_SET", "AllOf", "AnyOf", "Rule", "StoppingRule", "as_rules", "reason_to_stop", "stop_set_size"]

KAPPA = "prediction_kappa"
"""Among a record's metrics: how far its model and the one of the round before agree on the stop set."""

STOP_SET = 2000
"""Points whose predictions are compared by default, as in Bloodgood and Vijay-Shanker (2009)."""


class StoppingRule(ABC):
    """Says when labels no longer pay. Subclass it and write `__call__`.

    `requires` names figures that have to be measured for it and are not there otherwise. There is one,
    `"prediction_kappa"`: it then stands in the metrics of every record whose round before had trained too, measured on
    `stop_set` points (`None`: all).

    Example:
        >>> from lightning_diffal.stopping import Budget
        >>> class Patience(StoppingRule):
        ...     def __call__(self, history):
        ...         return "that was enough" if len(history) > 2 else None
        >>> Patience() | Budget(50)
        AnyOf(Patience(), Budget(n=50))
    """

    requires: frozenset[str] = frozenset()
    stop_set: int | None = STOP_SET

    @abstractmethod
    def __call__(self, history: History) -> str | None:
        """Why to stop, or `None`.

        Args:
            history: at least one record; that of the round that has just ended is the last, without a query.
        """

    @property
    def rules(self) -> tuple[StoppingRule, ...]:
        """What it is made of: itself, unless it combines others."""
        return (self,)

    def __or__(self, other: Rule) -> AnyOf:
        return AnyOf(self, other)

    def __ror__(self, other: Rule) -> AnyOf:
        return AnyOf(other, self)

    def __and__(self, other: Rule) -> AllOf:
        return AllOf(self, other)

    def __rand__(self, other: Rule) -> AllOf:
        return AllOf(other, self)

    def __repr__(self) -> str:
        """The call that makes it, as far as arguments are kept under their names."""
        names = list(inspect.signature(type(self).__init__).parameters)[1:]
        given = ", ".join(f"{name}={getattr(self, name)!r}" for name in names if hasattr(self, name))
        return f"{type(self).__name__}({given})"


Rule: TypeAlias = StoppingRule | Callable[[History], str | None]
"""What may stand in `ActiveLearning(stopping=...)`."""


class _Combined(StoppingRule):
    """Several rules as one."""

    parts: tuple[StoppingRule, ...]

    def __init__(self, *rules: Rule) -> None:
        if not rules:
            raise ConfigurationError(f"Expected {type(self).__name__} to combine at least one rule, but got none.")
        parts: list[StoppingRule] = []
        for rule in map(_as_rule, rules):  # a | b | c is one rule of three
            parts.extend(rule.parts if isinstance(rule, _Combined) and type(rule) is type(self) else (rule,))
        self.parts = tuple(parts)
        self.requires = frozenset().union(*(part.requires for part in self.parts))

    @property
    def rules(self) -> tuple[StoppingRule, ...]:
        """Those that combine no others."""
        return tuple(rule for part in self.parts for rule in part.rules)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.parts))})"


class AnyOf(_Combined):
    """Stops as soon as one of several rules does: `a | b`.

    Args:
        rules: rules, or functions of the history.

    Example:
        >>> from lightning_diffal.stopping import Budget, TargetMetric
        >>> Budget(5) | TargetMetric("val_acc", 0.9)
        AnyOf(Budget(n=5), TargetMetric(metric='val_acc', target=0.9, mode='max', patience=1))
    """

    def __call__(self, history: History) -> str | None:
        """Why to stop, or `None`."""
        return next((reason for part in self.parts if (reason := part(history))), None)


class AllOf(_Combined):
    """Stops when all of several rules want to: `a & b`.

    Args:
        rules: rules, or functions of the history.

    Example:
        >>> from lightning_diffal.stopping import AllOf, Explored, StablePredictions
        >>> AllOf(Explored(), StablePredictions()).requires
        frozenset({'prediction_kappa'})
    """

    def __call__(self, history: History) -> str | None:
        """Why to stop, or `None`."""
        reasons = [part(history) for part in self.parts]
        return None if not all(reasons) else " and ".join(map(str, reasons))


class _Function(StoppingRule):
    """A function of the history."""

    def __init__(self, function: Callable[[History], str | None]) -> None:
        self.function = function
        self.requires = frozenset(getattr(function, "requires", ()))

    def __call__(self, history: History) -> str | None:
        reason = self.function(history)
        return str(reason) if reason else None

    def __repr__(self) -> str:
        return getattr(self.function, "__qualname__", None) or repr(self.function)


def as_rules(stopping: Any) -> tuple[StoppingRule, ...]:
    """Rules from what a user gave: one, or several, each a rule or a function.

    Raises:
        InvalidTypeError: anything else, or a class instead of an instance.
        ConfigurationError: it requires what cannot be measured, or rules measure on different stop sets.

    Example:
        >>> from lightning_diffal.stopping import Budget
        >>> as_rules([Budget(3), len])
        (Budget(n=3), len)
    """
    several = isinstance(stopping, Iterable) and not isinstance(stopping, str | StoppingRule)
    rules = tuple(map(_as_rule, stopping if several else (stopping,)))
    unknown = set().union(*(rule.requires for rule in rules)) - {KAPPA}
    if unknown:
        raise ConfigurationError(f"A stopping rule requires {sorted(unknown)}, but only {KAPPA!r} can be measured.")
    sizes = list(_stop_sets(rules))
    if len(set(sizes)) > 1:
        raise ConfigurationError(
            f"Expected all stopping rules to have the same `stop_set`, since one kappa a round is measured, but got "
            f"{', '.join(map(str, sizes))}."
        )
    return rules


def _as_rule(rule: Any) -> StoppingRule:
    if isinstance(rule, StoppingRule):
        return rule
    if isinstance(rule, type) or not callable(rule):
        hint = f": call it, {rule.__name__}(...)" if isinstance(rule, type) else ""
        raise InvalidTypeError(
            f"Expected argument `stopping` to hold stopping rules or functions of the history, but got {rule!r}{hint}."
        )
    return _Function(rule)


def reason_to_stop(rules: Iterable[StoppingRule], history: History) -> str | None:
    """What the first rule that wants to stop says, or `None`."""
    return AnyOf(*rules)(history) if (rules := tuple(rules)) else None


def _stop_sets(rules: Iterable[StoppingRule]) -> Iterator[int | None]:
    return (leaf.stop_set for rule in rules for leaf in rule.rules if KAPPA in leaf.requires)


def stop_set_size(rules: Iterable[StoppingRule]) -> int | None:
    """How many points are compared from round to round; 0 where no rule asks for it, `None` for all.

    Example:
        >>> from lightning_diffal.stopping import Budget, StablePredictions
        >>> stop_set_size([Budget(3)]), stop_set_size([Budget(3) | StablePredictions()])
        (0, 2000)
    """
    return next(_stop_sets(rules), 0)
