"""Where labels come from: the data set itself, a function, or people, in files, a page or Label Studio."""

from lightning_diffal.labels.marks import PENDING, SKIP
from lightning_diffal.oracle.base import Oracle, Question, checked_answers, checked_corrections
from lightning_diffal.oracle.files import FileOracle
from lightning_diffal.oracle.label_studio.oracle import LabelStudioOracle
from lightning_diffal.oracle.label_studio.tasks import label_config
from lightning_diffal.oracle.page.oracle import PageOracle
from lightning_diffal.oracle.simulated import CallableOracle, DatasetOracle, as_oracle

__all__ = [
    "PENDING",
    "SKIP",
    "CallableOracle",
    "DatasetOracle",
    "FileOracle",
    "LabelStudioOracle",
    "Oracle",
    "PageOracle",
    "Question",
    "as_oracle",
    "checked_answers",
    "checked_corrections",
    "label_config",
]
