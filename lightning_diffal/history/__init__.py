"""What a run leaves behind: the record of each round, tables of it, the journal and the run's folder.

Everything here is about storing and reading back; what happens in a round is decided in `run`.
"""

from __future__ import annotations

from lightning_diffal.history.history import History
from lightning_diffal.history.record import RoundRecord

__all__ = ["History", "RoundRecord"]
