"""One run below the callback: its settings, state and rounds; below them asking, resuming, and telling others.

Everything here takes a `RunContext` and never the callback, the samplers' inner workings or the command line.
"""
