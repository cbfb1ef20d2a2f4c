"""Two processes: nothing but the Trainer's arguments changes.

python examples/ddp.py [--quick]
"""

import argparse

import pytorch_lightning as pl
from quickstart import Model

from lightning_diffal import ActiveDataModule, ActiveLearning, datasets


def main(quick: bool = False) -> None:
    train_set, test_set = datasets.digits()
    data = ActiveDataModule(train_set, test_dataset=test_set, initial_labels=10, batch_size=16, seed=0)  # 2 x 16
    active = ActiveLearning(query_size=10, max_rounds=1 if quick else 10, seed=0, test_each_round=True)
    trainer = pl.Trainer(
        max_epochs=3 if quick else 40,
        callbacks=[active],
        accelerator="cpu",  # "gpu" where there are two
        devices=2,
        strategy="ddp",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    trainer.fit(Model(), datamodule=data)
    if trainer.is_global_zero:  # both processes hold the same history
        print(active.history)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round")
    main(parser.parse_args().quick)
