"""What samplers are compared on: data, networks, and conditions that make a data set harder.

A task makes a fresh model and fresh data from a seed. How runs are carried out and judged is not decided here but one
folder up.
"""
