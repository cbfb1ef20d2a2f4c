"""One run below the callback: rounds, queries, answers, the model pass, the run's state and what it writes down.

Everything here takes a `RunContext` and never the callback, the samplers' inner workings or the command line.
"""
