"""Errors of the package; each also inherits the builtin that a caller would expect to catch."""

__all__ = [
    "AnswerFileError",
    "ConfigurationError",
    "DiffalError",
    "FeatureError",
    "InvalidIndexError",
    "InvalidLabelError",
    "InvalidTypeError",
    "LabelPlaceError",
    "LoaderMismatchError",
    "OtherProcessError",
    "ResumeError",
    "ServerError",
    "StorageError",
    "TransitionError",
]


class DiffalError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigurationError(DiffalError, ValueError):
    """An argument, or a combination of arguments, that cannot work."""


class InvalidTypeError(DiffalError, TypeError):
    """An object of a kind that active learning cannot use (an iterable data set, a foreign data module)."""


class InvalidIndexError(DiffalError, IndexError, ValueError):
    """A data set index that does not exist, stands twice, or is in the wrong state for what was asked."""


class InvalidLabelError(DiffalError, ValueError, TypeError):
    """A label of the wrong type, the wrong shape or out of range. Nothing was applied."""


class LabelPlaceError(ConfigurationError, InvalidLabelError):
    """It cannot be told where the items of a data set hold their label."""


class AnswerFileError(DiffalError, ValueError):
    """A file of answers that cannot be read; it says file, line and reason. Nothing was applied."""


class FeatureError(DiffalError, RuntimeError, ValueError):
    """Features could not be found, or are not finite."""


class LoaderMismatchError(DiffalError, RuntimeError):
    """A training loader that does not cover exactly the labelled points."""


class OtherProcessError(DiffalError, RuntimeError):
    """Another process of the Trainer has failed, and with it this one: it quotes what happened there."""


class ResumeError(DiffalError, RuntimeError):
    """A checkpoint that does not belong to this run, data set or model."""


class ServerError(DiffalError, RuntimeError, ConnectionError):
    """A server that cannot be reached, or refuses what it is asked. Nothing was applied, and nothing is lost."""


class StorageError(DiffalError, OSError):
    """A file that could not be written: it says which one and why. What was to be written was not applied."""


class TransitionError(DiffalError, RuntimeError):
    """A step that the run cannot take in its present phase: a fault of this package, or of code that drives it."""
