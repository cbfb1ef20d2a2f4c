"""A label in the plain types that files hold, and back."""

from __future__ import annotations

from typing import Any

from lightning_diffal.labels.targets import Label

__all__ = ["label_from_plain", "label_to_plain"]


def label_to_plain(label: Label) -> int | list[int]:
    """A class as a number, a multi-label target as a list: what JSON and `torch.load(weights_only=True)` know.

    Args:
        label: as `parse_label` gives it.

    Example:
        >>> label_to_plain(2), label_to_plain((0, 1))
        (2, [0, 1])
    """
    return [int(part) for part in label] if isinstance(label, tuple) else int(label)


def label_from_plain(value: Any) -> Label:
    """The label that `label_to_plain` gave; whether it fits the classes is for `parse_label` to say.

    Args:
        value: a number, or a list of zeros and ones.

    Example:
        >>> label_from_plain([0, 1]), label_from_plain(2)
        ((0, 1), 2)
    """
    return tuple(int(part) for part in value) if isinstance(value, list | tuple) else int(value)
