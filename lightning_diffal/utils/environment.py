"""What a run was computed with: bits are promised to be the same only where this is the same."""

from __future__ import annotations

import platform
import sys

import numpy as np
import torch

__all__ = ["environment", "package_version"]


def package_version() -> str:
    """The version of this package."""
    return str(getattr(sys.modules["lightning_diffal"], "__version__", "unknown"))


def environment() -> dict[str, str]:
    """Versions of what computes, and how many threads it uses: sums depend on both.

    Example:
        >>> sorted(environment())[:3]
        ['device', 'lightning', 'lightning_diffal']
    """
    lightning = sys.modules.get("pytorch_lightning") or sys.modules.get("lightning")
    return {
        "lightning_diffal": package_version(),
        "lightning": str(getattr(lightning, "__version__", "none")),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
        "threads": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine(),
    }
