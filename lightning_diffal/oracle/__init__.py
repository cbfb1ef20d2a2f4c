"""Where labels come from: the data set itself, or a function."""

from lightning_diffal.oracle.base import PENDING, Oracle, checked_answers
from lightning_diffal.oracle.simulated import CallableOracle, DatasetOracle, as_oracle

__all__ = ["PENDING", "CallableOracle", "DatasetOracle", "Oracle", "as_oracle", "checked_answers"]
