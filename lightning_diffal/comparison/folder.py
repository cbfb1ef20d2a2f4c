"""The folder of a comparison: its settings, and one result a finished run."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_diffal.comparison.runs import FORMAT
from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.utils.jsonable import stable_repr
from lightning_diffal.utils.storage.files import replacing

__all__ = ["ComparisonFolder", "description"]

_MISSING = "nothing"


class ComparisonFolder:
    """Results of runs as `<sampler>-seed<k>.json`, and `settings.json`, which says what all of them have in common.

    Args:
        path: of the folder; made when first written to.

    Example:
        >>> ComparisonFolder("runs/cmp").file("diffusion:n_steps=5", 3).name
        'diffusion_n_steps=5-seed3.json'
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def file(self, name: str, seed: int) -> Path:
        """Where the result of a run stands."""
        return self.path / f"{re.sub(r'[^A-Za-z0-9._=,+-]', '_', name)}-seed{seed}.json"

    def settings(self) -> dict[str, Any] | None:
        """What `settings.json` says; `None` where there is none."""
        file = self.path / "settings.json"
        return _read(file) if file.exists() else None

    def claim(self, settings: Mapping[str, Any]) -> None:
        """Write the settings, or check that they are those of the folder; one without results takes new ones.

        Args:
            settings: what all runs have in common, of types that JSON knows.

        Raises:
            ConfigurationError: the folder holds results of other settings.
        """
        wanted = json.loads(json.dumps(settings))
        differing = self._differing(wanted)
        if self.settings() is None or (differing and not self.finished()):
            _write(self.path / "settings.json", wanted)
        elif differing:
            raise ConfigurationError(
                f"The folder {self.path} holds a comparison of other settings: {'; '.join(differing)}. "
                "Give another folder, or these settings."
            )

    def _differing(self, settings: Mapping[str, Any]) -> list[str]:
        there, here = _flat(self.settings() or {}), _flat(settings)
        return [
            f"{name} is {there.get(name, _MISSING)} there and {here.get(name, _MISSING)} here"
            for name in dict.fromkeys((*there, *here))
            if there.get(name, _MISSING) != here.get(name, _MISSING)
        ]

    def read(self, name: str, seed: int, sampler: str | None = None) -> dict[str, Any] | None:
        """The result of a run; `None` where it is not finished.

        Args:
            name: of the sampler.
            seed: of the run.
            sampler: its representation, where the result has to be of exactly this one.

        Raises:
            ConfigurationError: the file is not such a result.
        """
        file = self.file(name, seed)
        if not file.exists():
            return None
        result = _read(file)
        for key, wanted in (("format", FORMAT), ("name", name), ("seed", seed), ("sampler", sampler)):
            if wanted is not None and result.get(key) != wanted:
                raise ConfigurationError(
                    f"Expected {file} to hold a result with {key} {wanted!r}, but got {result.get(key)!r}: "
                    "give another folder, or remove the file to have it run again."
                )
        return result

    def write(self, result: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Keep the result of a finished run, as a whole or not at all.

        Args:
            result: of the run.
            settings: that it ran with.

        Raises:
            ConfigurationError: somebody else has taken the folder for other settings in the meantime.
        """
        self.claim(settings)
        _write(self.file(result["name"], result["seed"]), result)

    def finished(self) -> list[dict[str, Any]]:
        """All results, sorted by seed, then by name of the sampler."""
        found = [_read(file) for file in self.path.glob("*-seed*.json")]
        return sorted((r for r in found if r.get("format") == FORMAT), key=lambda r: (r["seed"], r["name"]))


def description(value: Any) -> Any:
    """A value as settings keep it: of types that JSON knows, the same in every process.

    Example:
        >>> description({"task": functools.partial(max, 3), "path": Path("a")})
        {'task': {'function': 'builtins.max', 'arguments': [3]}, 'path': 'a'}
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): description(item) for key, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [description(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, functools.partial):
        arguments = {"arguments": description(value.args)} if value.args else {}
        return {"function": description(value.func), **arguments, **description(value.keywords)}
    if isinstance(getattr(value, "settings", None), Mapping):
        return description(value.settings)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: description(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"kind": type(value).__name__, **fields}
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return stable_repr(value)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"Expected {file} to hold a result, but it cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise ConfigurationError(f"Expected {file} to hold a result, but got {type(content).__name__}.")
    return content


def _write(file: Path, content: Mapping[str, Any]) -> None:
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Values as text, those of settings within settings by a dotted name."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{name}.")
        elif not isinstance(value, Mapping):
            found[prefix + name] = json.dumps(value)
    return found
