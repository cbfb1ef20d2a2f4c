"""Optional dependencies: imported where they are used, with an error that says what to install."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from lightning_diffal.exceptions import DiffalError

__all__ = ["MissingExtraError", "require"]


class MissingExtraError(DiffalError, ImportError):
    """A package that only an optional extra of lightning-diffal installs."""


def require(module: str, *, extra: str) -> Any:
    """Import an optional module.

    Args:
        module: dotted name, for example `"matplotlib.figure"`.
        extra: the extra of this package that installs it.

    Returns:
        The module.

    Raises:
        MissingExtraError: it is not installed. An error inside an installed package passes through unchanged.

    Example:
        >>> require("math", extra="report").floor(2.5)
        2
        >>> try:
        ...     require("no_such_package.plots", extra="report")
        ... except ImportError as error:
        ...     print(error)
        no_such_package is not installed: pip install "lightning-diffal[report]"
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        raise MissingExtraError(f'{package} is not installed: pip install "lightning-diffal[{extra}]"') from None
