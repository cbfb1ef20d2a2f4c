"""Reports of a run: a page with what was asked and why, and pictures. Needs the extra `report` (matplotlib)."""

from lightning_diffal.report.curves import learning_curves
from lightning_diffal.report.page import html_report

__all__ = ["html_report", "learning_curves"]
