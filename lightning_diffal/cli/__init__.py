"""The command `diffal`: one file per subcommand.

A subcommand parses what was typed, calls one function of the package and prints what came of it; what takes seconds
to import is imported when its command runs. Nothing here is needed by anything outside this folder.
"""

from __future__ import annotations

from lightning_diffal.cli.parser import main

__all__ = ["main"]
