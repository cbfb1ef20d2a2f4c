"""What to label next where there is no model and no training loop: embeddings and a few labels in files.

`select` chooses, `files` reads. Imports neither Lightning nor the training loop.
"""

from __future__ import annotations

from lightning_diffal.selection.select import Selection, select_from_files

__all__ = ["Selection", "select_from_files"]
