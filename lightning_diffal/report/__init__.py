"""Reports: a run as one HTML page, and learning curves as pictures (these need the extra `report`, matplotlib)."""

from lightning_diffal.report.curves import learning_curves
from lightning_diffal.report.page import html_report

__all__ = ["html_report", "learning_curves"]
