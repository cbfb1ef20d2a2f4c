"""What a run writes down as it goes, and how it goes on from that: its folder, its checkpoints, what must be the same.

The formats of the files are those of `history`; when something is written down is decided in `run.rounds`.
"""
