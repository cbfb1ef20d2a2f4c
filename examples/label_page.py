"""People label on a page in the browser while the training waits: open the address that is printed.

    python examples/label_page.py

Press the number of a class, or click it. The next ten digits appear by themselves when the model has trained. Kill the
script whenever you like: the same command goes on. With `--no-wait` it ends while answers are missing, and
`diffal label runs/page` serves the page without training.
"""

import argparse

import pytorch_lightning as pl
from quickstart import Model
from torch.utils.data import Dataset

from lightning_diffal import ActiveDataModule, ActiveLearning, datasets
from lightning_diffal.oracle import PageOracle


class Unlabelled(Dataset):
    """The digits as nobody has labelled them yet."""

    def __init__(self, labelled: Dataset):
        self.labelled = labelled

    def __len__(self):
        return len(self.labelled)

    def __getitem__(self, index):
        return self.labelled[index][0]


def main(quick: bool = False, wait: bool = True) -> None:
    train_set, test_set = datasets.digits()
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    data = ActiveDataModule(Unlabelled(train_set), test_dataset=test_set, class_names=names, batch_size=32)
    oracle = PageOracle(open_browser=wait, timeout=None if wait else 0)
    active = ActiveLearning(query_size=10, max_rounds=5, oracle=oracle, run_dir="runs/page", test_each_round=True)
    trainer = pl.Trainer(
        max_epochs=2 if quick else 40, callbacks=[active], accelerator="cpu", logger=False, enable_checkpointing=False
    )
    trainer.fit(Model(), datamodule=data)
    print(active.history)
    print(active.history[-1].stop_reason)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two epochs per round")
    parser.add_argument("--no-wait", action="store_true", help="end while answers are missing")
    arguments = parser.parse_args()
    main(arguments.quick, not arguments.no_wait)
