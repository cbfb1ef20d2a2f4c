"""A run in a process of its own, whose annotator takes a minute for the second query.

python writers_script.py FOLDER slow|quick
"""

import json
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from lightning_diffal import ActiveDataModule, ActiveLearning
from lightning_diffal.exceptions import DiffalError
from lightning_diffal.samplers import RandomSampler
from tests.helpers import TRAIN, VAL, Net, quiet_trainer


def main(folder, pace):
    folder = Path(folder)

    def oracle(indices, items):
        if len(active.history) == 2 and pace == "slow":
            (folder / "waiting").touch()
            time.sleep(60)
        with (folder / "bought.jsonl").open("a") as file:
            file.write(json.dumps(list(indices)) + "\n")
        return [int(y) for _, y in items]

    torch.manual_seed(1)
    data = ActiveDataModule(TRAIN, val_dataset=VAL, initial_labels=[90, 3, 41, 17], batch_size=4)
    active = ActiveLearning(RandomSampler(), query_size=6, max_rounds=2, seed=3, run_dir=folder / "run", oracle=oracle)
    try:
        quiet_trainer([active], max_epochs=1).fit(Net(), datamodule=data)
    except DiffalError as error:
        print(f"{type(error).__name__}: {error}")
        sys.exit(3)
    print(json.dumps([r.n_labelled for r in active.history]))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
