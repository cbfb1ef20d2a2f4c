"""Several processes: ranks of one Trainer, shards of a graph, processes that live for one fit, parallel calls.

What is computed on them is decided elsewhere; here it is gathered, shared out and agreed on.
"""
