"""The settings of a run: the arguments of `ActiveLearning`, checked whenever one is set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from typing import Any, Generic, Literal, TypeVar, overload

from lightning_diffal.exceptions import ConfigurationError, InvalidTypeError
from lightning_diffal.features.extractor import KNOWN_REQUIREMENTS
from lightning_diffal.oracle import Oracle, as_oracle
from lightning_diffal.pseudo_labels.rule import PseudoLabels, as_pseudo_labels
from lightning_diffal.samplers import DiffusionSampler, QuerySampler
from lightning_diffal.stopping.base import StoppingRule, as_rules
from lightning_diffal.utils.arguments import as_seconds, check_choice, check_integers, check_reset, check_run_dir
from lightning_diffal.utils.jsonable import stable_repr

__all__ = ["HasSettings", "RunSettings", "Setting", "checked_sampler"]


T = TypeVar("T")


class Setting(Generic[T]):
    """An attribute of the callback that is kept in the settings of its run."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, active: None, owner: type) -> Setting[T]: ...
    @overload
    def __get__(self, active: HasSettings, owner: type) -> T: ...
    def __get__(self, active: HasSettings | None, owner: type) -> Setting[T] | T:
        if active is None:
            return self
        value: T = getattr(active._context.settings, self.name)
        return value

    def __set__(self, active: HasSettings, value: Any) -> None:
        setattr(active._context.settings, self.name, value)


class HasSettings:
    """The settings of a run as attributes of the callback, under the names of its arguments."""

    _context: Any

    sampler = Setting[QuerySampler]()
    query_size = Setting[int]()
    max_rounds = Setting[int | None]()
    budget = Setting[int | None]()
    max_time = Setting[float | None]()
    oracle = Setting[Oracle]()
    min_answers = Setting[int | None]()
    features = Setting[str]()
    head = Setting[str | None]()
    reset = Setting[str | float]()
    weights = Setting[str]()
    pseudo_labels = Setting[PseudoLabels | None]()
    stopping = Setting[tuple[StoppingRule, ...]]()
    test_each_round = Setting[bool]()
    run_dir = Setting[str | PathLike[str] | Literal[False] | None]()
    on_journal_ahead = Setting[str]()
    on_interrupted_round = Setting[str]()
    seed = Setting[int | None]()
    report = Setting[bool]()


@dataclass
class RunSettings:
    """What the user asked for. Setting an attribute checks it as the constructor does.

    The attributes are the arguments of `lightning_diffal.ActiveLearning`; see there what they mean.

    Raises:
        ConfigurationError: a value out of range.
        InvalidTypeError: a value of the wrong type.
    """

    sampler: QuerySampler
    query_size: int
    max_rounds: int | None
    budget: int | None
    max_time: float | None
    """In seconds."""
    oracle: Oracle
    min_answers: int | None
    features: str
    head: str | None
    reset: str | float
    weights: str
    pseudo_labels: PseudoLabels | None
    stopping: tuple[StoppingRule, ...]
    test_each_round: bool
    run_dir: str | PathLike[str] | Literal[False] | None
    on_journal_ahead: str
    on_interrupted_round: str
    seed: int | None
    report: bool = False

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, _CHECKS[name](name, value) if name in _CHECKS else value)

    def described(self) -> dict[str, str]:
        """What should stay the same throughout a run: it decides which points are asked, and how a round trains."""
        return {name: stable_repr(getattr(self, name)) for name in _CONSTANT}


def checked_sampler(sampler: Any) -> QuerySampler:
    """A sampler whose requirements can be met.

    Raises:
        InvalidTypeError: not a sampler, or a class instead of an instance.
        ConfigurationError: it requires what cannot be read from a model.
    """
    if not isinstance(sampler, QuerySampler):
        hint = f": call it, {sampler.__name__}()" if isinstance(sampler, type) else ""
        raise InvalidTypeError(f"Expected argument `sampler` to be a QuerySampler, but got {sampler!r}{hint}.")
    unknown = set(sampler.requires) - KNOWN_REQUIREMENTS
    if unknown:
        raise ConfigurationError(
            f"{type(sampler).__name__} requires {sorted(unknown)}, but only {sorted(KNOWN_REQUIREMENTS)} can be read "
            "from a model."
        )
    return sampler


_CONSTANT = ("sampler", "pseudo_labels", "reset", "weights", "features", "head")


def _count(least: int, *, optional: bool = True) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if value is None and not optional:
            raise ConfigurationError(f"Expected argument `{name}` to be an integer of at least {least}, but got None.")
        check_integers(least, **{name: value})
        return value

    return check


def _one_of(*choices: str) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        check_choice(name, value, choices)
        return value

    return check


def _features(name: str, value: Any) -> str:
    if not isinstance(value, str) or not all(part.strip() for part in value.split("+")):
        raise InvalidTypeError(
            f"Expected argument `{name}` to be 'auto', 'inputs' or the name of a submodule or method of the model, or "
            f"several of them joined by '+', but got {value!r}."
        )
    return value


def _head(name: str, value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidTypeError(f"Expected argument `{name}` to be the name of a submodule, but got {value!r}.")
    return value


def _reset(name: str, value: Any) -> Any:
    check_reset(value)
    return value if isinstance(value, str) else float(value)


def _run_dir(name: str, value: Any) -> Any:
    check_run_dir(value)
    return value


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "sampler": lambda name, value: checked_sampler(DiffusionSampler() if value is None else value),
    "query_size": _count(1, optional=False),
    "max_rounds": _count(0),
    "budget": _count(1),
    "max_time": lambda name, value: value if isinstance(value, float) else as_seconds(value),
    "oracle": lambda name, value: as_oracle(value),
    "min_answers": _count(1),
    "features": _features,
    "head": _head,
    "reset": _reset,
    "weights": _one_of("last", "best"),
    "pseudo_labels": lambda name, value: as_pseudo_labels(value),
    "stopping": lambda name, value: as_rules(value),
    "run_dir": _run_dir,
    "on_journal_ahead": _one_of("replay", "branch"),
    "on_interrupted_round": _one_of("redo", "continue"),
    "seed": _count(0),
}
