"""Where labels come from: the data set itself, a function, or files that people fill in."""

from lightning_diffal.oracle.base import PENDING, SKIP, Oracle, Question, checked_answers, checked_corrections
from lightning_diffal.oracle.files import FileOracle
from lightning_diffal.oracle.simulated import CallableOracle, DatasetOracle, as_oracle

__all__ = [
    "PENDING",
    "SKIP",
    "CallableOracle",
    "DatasetOracle",
    "FileOracle",
    "Oracle",
    "Question",
    "as_oracle",
    "checked_answers",
    "checked_corrections",
]
