"""The settings that a run folder was begun with: kept, and compared with those of a command that goes on in it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning_diffal.exceptions import ConfigurationError
from lightning_diffal.history.journal import FILENAME
from lightning_diffal.utils.extras import require
from lightning_diffal.utils.storage.files import replacing

__all__ = ["KeptConfig"]

_START = ("initial_labels", "stratified", "val_fraction", "num_classes", "class_names", "target", "seed", "class_path")
"""Arguments of model, data and labels that decide what a run begins with."""
_GROWS = ("max_rounds", "budget", "max_time", "run_dir", "ckpt_path")
"""Arguments that are meant to change while a run goes on."""
_ABSENT = "nothing"


class KeptConfig:
    """The file `config.yaml` of a run folder, and later ones beside it.

    Args:
        folder: of the run.
        now: what the present command was configured with, as YAML.
    """

    def __init__(self, folder: Path, now: str) -> None:
        self.folder, self.now = folder, now

    def check(self) -> None:
        """Name what changed since the run began; refuse another start.

        Raises:
            ConfigurationError: another model, data set or starting set than the folder's run began with.
        """
        changes = dict(self._changes())
        other = [name for name in changes if _decides_start(name)]
        if other:
            told = "; ".join(f"--{name} was {changes[name][0]} and is {changes[name][1]}" for name in other)
            raise ConfigurationError(
                f"{self.folder} holds a run that began otherwise: {told}. Give the same arguments to go on, or another "
                "--active.run_dir for a new run."
            )
        for name, (before, after) in changes.items():
            print(f"Goes on with another --{name}: {after} (the run began with {before}).", file=sys.stderr)

    def write(self) -> None:
        """Keep the present settings; those that ran before stay in their own files."""
        files = self._files()
        if files and files[-1].read_text(encoding="utf-8") == self.now:
            return
        path = self.folder / (f"config-{len(files) + 1}.yaml" if files else "config.yaml")
        with replacing(path) as temporary:
            temporary.write_text(self.now, encoding="utf-8")

    def _files(self) -> list[Path]:
        first = self.folder / "config.yaml"
        if not first.exists() or not (self.folder / FILENAME).exists():
            return []
        later = [self.folder / f"config-{number}.yaml" for number in range(2, 1000)]
        return [first, *(path for path in later if path.exists())]

    def _changes(self) -> Iterator[tuple[str, tuple[Any, Any]]]:
        files = self._files()
        if not files:
            return
        yaml = require("yaml", extra="cli")
        before = dict(_flat(yaml.safe_load(files[0].read_text(encoding="utf-8")) or {}))
        after = dict(_flat(yaml.safe_load(self.now) or {}))
        for name in sorted(before.keys() | after.keys()):
            pair = before.get(name, _ABSENT), after.get(name, _ABSENT)
            if pair[0] != pair[1] and name.split(".")[-1] not in _GROWS:
                yield name, pair


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _decides_start(name: str) -> bool:
    parts = name.split(".")
    return name == "seed_everything" or (parts[0] in ("model", "data", "labelled") and parts[-1] in _START)
