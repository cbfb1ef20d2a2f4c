"""A run that is killed goes on where it was: run this, press Ctrl-C or kill it, and run it again.

    python examples/resume.py [--quick] [--kill-in-round 1]

With `--kill-in-round` the process kills itself in the middle of that round, as a cluster would (SIGKILL).
"""

import argparse
import os
import signal

import pytorch_lightning as pl
from quickstart import Model

from lightning_diffal import ActiveDataModule, ActiveLearning, datasets


class Killed(Model):
    """The same model on a machine that dies."""

    def __init__(self, in_round: int, n_labelled: int):
        super().__init__()
        self.fatal = n_labelled + 10 * in_round

    def on_train_epoch_end(self):
        if len(self.trainer.datamodule.labelled_indices) == self.fatal and self.current_epoch == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def main(quick: bool = False, kill_in_round: int | None = None) -> None:
    pl.seed_everything(0)  # for the weights of the model
    train_set, test_set = datasets.digits()
    data = ActiveDataModule(train_set, test_dataset=test_set, initial_labels=10, batch_size=32, seed=0)
    # the folder is what makes the same script go on
    active = ActiveLearning(
        query_size=10, max_rounds=2 if quick else 10, seed=0, run_dir="runs/resume", test_each_round=True
    )
    trainer = pl.Trainer(
        max_epochs=3 if quick else 40,
        callbacks=[active],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(Model() if kill_in_round is None else Killed(kill_in_round, 10), datamodule=data)
    print(active.history)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two short rounds")
    parser.add_argument("--kill-in-round", type=int)
    arguments = parser.parse_args()
    main(arguments.quick, arguments.kill_in_round)
