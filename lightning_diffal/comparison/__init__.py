"""Samplers compared fairly: same seeds, same first labels, same weights, through real Trainers."""

from lightning_diffal.comparison.compare import compare_samplers
from lightning_diffal.comparison.folder import ComparisonFolder
from lightning_diffal.comparison.result import Comparison
from lightning_diffal.comparison.tasks.task import NamedTask, Task

__all__ = ["Comparison", "ComparisonFolder", "NamedTask", "Task", "compare_samplers"]
