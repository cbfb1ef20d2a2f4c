"""What the parser of `diffal fit` says of arguments that it cannot read, in a line: what is wrong, and what to give."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable
from types import ModuleType

from lightning_diffal import oracle, samplers, stopping

__all__ = ["refusal"]

_KINDS: dict[str, tuple[ModuleType, type]] = {
    "sampler": (samplers, samplers.QuerySampler),
    "oracle": (oracle, oracle.Oracle),
    "stopping": (stopping, stopping.StoppingRule),
}
_KEY = re.compile(r'Parser key "([^"]+)":\s*(.*)', re.DOTALL)
_NOISE = re.compile(
    r"Expected a path but|Does not validate|Subtypes:|Errors:|Given value|Expected a <class 'NoneType'>"
    r"|Problem with given"
)
_CLASS = re.compile(r"Problem with given class_path '([^']+)':\s*\n\s*(.*?)(?=\n\s*- |\n *Given value|\Z)", re.DOTALL)


def refusal(message: str, options: Iterable[str] = ()) -> str:
    r"""One line from jsonargparse's page.

    Args:
        message: of jsonargparse.
        options: all that there are, to name one that is spelt alike.

    Example:
        >>> refusal('Parser key "active.query_size":\n  Expected a <class \'int\'>. Got value: x')
        "--active.query_size: expected int, but got 'x'."
        >>> refusal("unrecognized arguments: --active.querysize 3", ["--active.query_size", "--active.seed"])
        'there is no --active.querysize; did you mean --active.query_size?'
    """
    said = _said(message, list(options))
    return said if said.endswith(("?", ".")) else f"{said}."


def _said(message: str, options: list[str]) -> str:
    unknown = re.fullmatch(r"unrecognized arguments: (.*)", message.strip(), re.DOTALL)
    if unknown:
        return _unknown(unknown[1].split()[0], options)
    missing = re.search(r"arguments? (?:is|are) required: (.+)", message)
    if missing:
        return f"give {' and '.join(f'--{name.strip()}' for name in missing[1].split(','))}"
    keyed = _KEY.search(message)
    if keyed is None:
        return " ".join(message.split())
    option, rest = f"--{keyed[1]}", keyed[2]
    given = re.findall(r"Given value: (.*)", rest)
    value = given[-1].strip() if given else ""
    chosen = _CLASS.search(rest)
    if chosen is not None:
        inner = _KEY.search(chosen[2])
        if inner is not None:
            return f"{option}.{inner[1]}: {_plain(inner[2])}"
        refused = re.search(r"Option '([^']+)' is not accepted", chosen[2])
        if refused is not None:
            return f"{chosen[1].rpartition('.')[2]} takes no {option}.{refused[1]}"
        return f"{option}: {chosen[1]} cannot be used: {' '.join(chosen[2].split())}"
    base = re.search(r"does not correspond to a subclass of (\w+)", rest)
    if base is not None:
        return f"{option}: {value} is no {base[1]}"
    if "is abstract" in rest:
        return f"{option}: say which class first: {option} CLASS{_known(keyed[1])}"
    if "dot import path" in rest:
        return f"{option}: there is no class {value}{_known(keyed[1])}"
    return f"{option}: {_plain(rest)}"


def _unknown(typed: str, options: list[str]) -> str:
    if not typed.startswith("-"):
        return f"{typed!r} is no option, and belongs to none"
    typed = typed.partition("=")[0]
    close = difflib.get_close_matches(typed, [name for name in options if name.startswith("--")], 1, 0.8)
    return f"there is no {typed}" + (f"; did you mean {close[0]}?" if close else "")


def _plain(words: str) -> str:
    """What a value should be, without the tree of types that were tried."""
    words = re.sub(r"(?m)^\s*- ", "", words)
    found = re.search(r"Expected an? <class '([\w.]+)'>\. Got value: ([^\n]*)", words)
    if found:
        return f"expected {found[1].rpartition('.')[2]}, but got {found[2].strip()!r}"
    kinds = [name for name in re.findall(r"Expected an? <class '(?:[\w.]*\.)?(\w+)'>", words) if name != "NoneType"]
    given = re.findall(r"Given value: (.*)", words)
    if kinds and given:
        return f"expected {' or '.join(dict.fromkeys(kinds))}, but got {given[-1].strip()!r}"
    lines = [" ".join(line.split()) for line in words.splitlines() if line.strip() and not _NOISE.search(line)]
    said = lines[0] if lines else " ".join(words.split())
    return said if len(said) <= 300 else said[:297] + "..."


def _known(key: str) -> str:
    kind = _KINDS.get(key.rpartition(".")[2])
    if kind is None:
        return ": give its path, such as my_package.MyClass"
    module, base = kind
    found = [getattr(module, name) for name in module.__all__]
    names = [c.__name__ for c in found if inspect.isclass(c) and issubclass(c, base) and not inspect.isabstract(c)]
    return f"; known are {', '.join(names)}, or give the path of your own"
