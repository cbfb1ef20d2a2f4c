"""What a run shows while it runs: its status, and what it sends to the Trainer's loggers."""
