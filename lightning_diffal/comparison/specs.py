"""Samplers and seeds as they are written on a command line."""

from __future__ import annotations

import ast
import inspect
import re
from typing import Any

from lightning_diffal import samplers
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.samplers import QuerySampler

__all__ = ["SAMPLERS", "parse_sampler", "parse_samplers", "parse_seeds", "parse_value"]

_ABBREVIATED = {"LeastConfidenceSampler": "least_confidence"}

SAMPLERS: dict[str, type[QuerySampler]] = {
    _ABBREVIATED.get(name, name.removesuffix("Sampler").lower()): getattr(samplers, name)
    for name in samplers.__all__
    if name.endswith("Sampler") and not inspect.isabstract(getattr(samplers, name))
}
"""By short name, every sampler of the package; each can be made without arguments."""

_ADAPTERS = frozenset({"skactiveml"})  # samplers of another package, which may not be installed


def parse_samplers(text: str) -> dict[str, QuerySampler]:
    """Samplers by name, from names separated by commas, each with arguments after a colon where wanted.

    A part of the form `name=value` belongs to the sampler before it, so that several variants stand side by side:
    `diffusion,diffusion:n_steps=20,centrality=0,random` are three samplers. `all` is every one of the package, but
    not `skactiveml`, which runs those of another package (`skactiveml:strategy=Badge`).

    Args:
        text: as it was typed.

    Returns:
        By the text of each, the sampler.

    Raises:
        ConfigurationError: an unknown sampler or argument, a value that the sampler refuses, or one text twice.

    Example:
        >>> parse_samplers("coreset:metric=cosine,random")
        {'coreset:metric=cosine': CoreSetSampler(metric='cosine'), 'random': RandomSampler()}
    """
    if text.strip() == "all":
        return {name: kind() for name, kind in SAMPLERS.items() if name not in _ADAPTERS}
    specs: list[str] = []
    for part in (part.strip() for part in _split(text)):
        if specs and re.match(r"\w+\s*=", part):
            specs[-1] += f",{part}" if ":" in specs[-1] else f":{part}"
        else:
            specs.append(part)
    found: dict[str, QuerySampler] = {}
    for spec in specs:
        if spec in found:
            raise ConfigurationError(f"Expected every sampler once, but got {spec!r} twice in {text!r}.")
        found[spec] = parse_sampler(spec)
    return found


def parse_sampler(text: str) -> QuerySampler:
    """One sampler, from its name and, after a colon, its arguments.

    Args:
        text: `name` or `name:argument=value,argument=value`. Values are Python literals; a bare word is a string, or
            a sampler where the argument is one (`candidate:base=entropy`).

    Raises:
        ConfigurationError: an unknown sampler or argument, or a value that the sampler refuses.

    Example:
        >>> parse_sampler("stochastic:base=entropy,temperature=0.5")
        StochasticSampler(base=EntropySampler(), mode='power', temperature=0.5)
    """
    name, _, rest = text.partition(":")
    if name not in SAMPLERS:
        raise ConfigurationError(f"Expected a sampler to be one of {', '.join(SAMPLERS)}, but got {name!r}.")
    if text.rstrip().endswith(":"):
        raise ConfigurationError(f"Expected arguments behind the colon, as in {name}:seed=1, but got {text!r}.")
    kind = SAMPLERS[name]
    # of a class without `__init__` the signature would be any arguments at all
    known = {} if kind.__init__ is object.__init__ else dict(inspect.signature(kind).parameters)
    arguments: dict[str, Any] = {}
    for part in _split(rest) if rest.strip() else []:
        argument, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or argument not in known:
            raise ConfigurationError(
                f"Expected arguments of {name!r} as {', '.join(f'{k}=value' for k in known) or 'none at all'}, "
                f"but got {part.strip()!r}."
            )
        takes_sampler = "Sampler" in str(known[argument].annotation)
        arguments[argument] = SAMPLERS[value]() if takes_sampler and value in SAMPLERS else parse_value(value)
    try:
        return kind(**arguments)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"The sampler {text!r} cannot be made: {error}") from None


def parse_seeds(text: str) -> list[int]:
    """Seeds from their number or from themselves.

    Args:
        text: `5` for the seeds 0 to 4, or a list of seeds and ranges, `5-14` or `3,7,10-12`; of a single one, `3,`.

    Raises:
        ConfigurationError: anything else, or a seed twice.

    Example:
        >>> parse_seeds("3"), parse_seeds("5-7,9"), parse_seeds("4,")
        ([0, 1, 2], [5, 6, 7, 9], [4])
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    spans = [re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", part) for part in parts]
    found: list[int] = []
    if spans and all(spans):
        if "," not in text and "-" not in text:
            found = list(range(int(text)))
        else:
            for low, high in (span.groups() for span in spans if span):
                found += range(int(low), int(low if high is None else high) + 1)
    if not found or len(set(found)) < len(found):
        raise ConfigurationError(
            "Expected `seeds` to be a number of seeds such as 5, or seeds such as 5-14 or 3,7, each once, "
            f"but got {text!r}."
        )
    return found


def _split(text: str) -> list[str]:
    """Parts between commas that stand outside brackets."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def parse_value(text: str) -> Any:
    """A Python literal, or as a string a bare word, or several joined by dots or plus signs.

    Args:
        text: as it was typed.

    Raises:
        ConfigurationError: neither.

    Example:
        >>> parse_value("0.5"), parse_value("None"), parse_value("cosine"), parse_value("inputs+net.0")
        (0.5, None, 'cosine', 'inputs+net.0')
    """
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        if re.fullmatch(r"[^\W\d]\w*([.+]\w+)*", text):
            return text
        raise ConfigurationError(
            f"Expected the value of an argument to be a Python literal or a word, but got {text!r}."
        ) from None
