"""Which of Lightning's two packages this process uses; imports neither.

`pytorch_lightning` and `lightning.pytorch` hold different classes, so the data module and the callback
must derive from the one that the user's Trainer comes from.
"""

from __future__ import annotations

import importlib.util
import os
import sys

from lightning_diffal.exceptions import ConfigurationError

__all__ = ["NAMESPACES", "VARIABLE", "choose_namespace", "for_lightning"]

NAMESPACES = ("pytorch_lightning", "lightning.pytorch")
VARIABLE = "LIGHTNING_DIFFAL_NAMESPACE"


def for_lightning(namespace: str) -> None:
    """Say which Lightning package to build on, where both are installed.

    Call it before any other name of this package is used; or set the environment variable
    `LIGHTNING_DIFFAL_NAMESPACE`.

    Args:
        namespace: `"pytorch_lightning"` or `"lightning.pytorch"`.

    Raises:
        ConfigurationError: an unknown name, or too late: the other package is in use already.

    Example:
        >>> import lightning_diffal
        >>> lightning_diffal.for_lightning("pytorch_lightning")
    """
    _check(namespace, "namespace")
    bound = sys.modules.get("lightning_diffal._lightning")
    if bound is not None and namespace != bound.NAMESPACE:
        raise ConfigurationError(
            f"lightning_diffal already uses {bound.NAMESPACE!r}: call for_lightning({namespace!r}) "
            "before importing any other name of lightning_diffal."
        )
    os.environ[VARIABLE] = namespace


def choose_namespace() -> str:
    """The package that was asked for, else the one the process has imported, else the one installed.

    Returns:
        One of `NAMESPACES`.

    Raises:
        ConfigurationError: neither is installed, or both are and nothing tells which one is meant.

    Example:
        >>> choose_namespace() in NAMESPACES
        True
    """
    asked = os.environ.get(VARIABLE)
    if asked:
        _check(asked, VARIABLE)
        return asked
    found = [name for name in NAMESPACES if name in sys.modules] or [
        name for name in NAMESPACES if importlib.util.find_spec(name.partition(".")[0]) is not None
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigurationError("Lightning is not installed: `pip install pytorch-lightning`.")
    raise ConfigurationError(
        "Both pytorch_lightning and lightning.pytorch are installed, and their classes do not mix. Say which one "
        'your Trainer comes from: `lightning_diffal.for_lightning("lightning.pytorch")` before other imports of '
        f"lightning_diffal, or the environment variable {VARIABLE}."
    )


def _check(namespace: str, name: str) -> None:
    if namespace not in NAMESPACES:
        raise ConfigurationError(f"Expected `{name}` to be one of {NAMESPACES}, but got {namespace!r}.")
