"""What others are told of a run: its report, the hyperparameters of loggers, people who label, and notices.

Nothing here changes a run; it goes on where one of them fails.
"""
