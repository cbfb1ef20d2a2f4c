"""What happens between two trainings: the model pass, the points and pseudo-labels chosen by it, the answers.

In which order that happens is decided in `run.rounds`; what is written down of it, in `run.resuming`.
"""
