"""How many labels does diffusion save on MNIST? Samplers side by side, each on the same seeds.

10,000 of the training images are the data set; 10 random labels to begin with, 10 more in each of 16 rounds; a small
network trained from the start on each; test accuracy on all 10,000 test images. Runs go in parallel, one thread each;
finished ones are kept in --out and not run again.

python examples/mnist.py --data mnist.npz [--seeds 0,1] [--samplers diffusion,random] [--n 10000] [--rounds 16]

The file holds x_train, y_train, x_test and y_test, as the one that Keras distributes.
"""

import argparse
import inspect
import json
import logging
import multiprocessing
import os
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from lightning_diffal import ActiveDataModule, ActiveLearning, datasets, samplers
from lightning_diffal.metrics import area_under_learning_curve
from lightning_diffal.report import learning_curves

INITIAL = QUERY_SIZE = 10
SAMPLERS = {
    name.removesuffix("Sampler").lower(): name
    for name in samplers.__all__
    if name.endswith("Sampler") and not inspect.isabstract(getattr(samplers, name))
}


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(32 * 49, 64), nn.ReLU()),
        )
        self.dropout = nn.Dropout(0.25)
        self.head = nn.Linear(64, 10)
        self.accuracy = MulticlassAccuracy(num_classes=10, average="micro")

    def forward(self, images):
        return self.head(self.dropout(self.features(images)))

    def on_round_start(self, trainer):
        # few labels need more epochs: about as many steps in each round
        trainer.fit_loop.max_epochs = max(15, min(60, 6000 // len(trainer.datamodule.labelled_indices)))

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return nn.functional.cross_entropy(self(images), labels)

    def test_step(self, batch, batch_idx):
        images, labels = batch
        self.accuracy(self(images), labels)
        self.log("test_acc", self.accuracy)

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3, weight_decay=1e-4)


class Mnist(ActiveDataModule):
    def test_dataloader(self):
        # each batch is indexed at once, since the images are in memory; larger ones fall out of the processor's cache
        batches = BatchSampler(SequentialSampler(self.test_dataset), batch_size=250, drop_last=False)
        return DataLoader(self.test_dataset, batch_size=None, sampler=batches)


class Progress(pl.Callback):
    def __init__(self, name):
        self.name = name

    def on_round_end(self, trainer):
        record = ActiveLearning.from_trainer(trainer).history[-1]
        print(f"{self.name}: {record.n_labelled:4d} labels  {record.metrics['test_acc']:.4f}", flush=True)


def run(sampler: str, seed: int, data: Path, n: int, rounds: int, out: Path) -> None:
    """One sampler on one seed; the history is written when it is complete."""
    torch.set_num_threads(1)
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    started = time.perf_counter()
    train_set, test_set = datasets.npz(data)
    generator = np.random.default_rng(seed)
    chosen = generator.choice(len(train_set), n, replace=False)
    train_set = TensorDataset(*(tensor[chosen] for tensor in train_set.tensors))
    initial = generator.choice(n, INITIAL, replace=False)
    module = Mnist(train_set, test_dataset=test_set, initial_labels=initial, batch_size=32, pool_batch_size=250)
    active = ActiveLearning(
        getattr(samplers, SAMPLERS[sampler])(),
        query_size=QUERY_SIZE,
        max_rounds=rounds,
        test_each_round=True,
        run_dir=False,  # these labels cost nothing, and a run that was cut off begins again
        seed=1000 * seed,
    )
    torch.manual_seed(seed)
    trainer = pl.Trainer(
        accelerator="cpu",
        callbacks=[active, Progress(f"{sampler}, seed {seed}")],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Model(), datamodule=module)
    seconds = time.perf_counter() - started
    active.history.to_csv(out / f"{sampler}-seed{seed}.csv")
    counts, scores = active.history.curve("test_acc")
    result = {"sampler": sampler, "seed": seed, "n": n, "rounds": rounds, "seconds": round(seconds)}
    result |= {"n_labelled": counts.tolist(), "test_acc": scores.tolist()}
    unfinished = result_file(out, sampler, seed).with_suffix(".tmp")
    unfinished.write_text(json.dumps(result) + "\n")
    unfinished.replace(result_file(out, sampler, seed))  # last: a result that is there is complete


def result_file(out: Path, sampler: str, seed: int) -> Path:
    return out / f"{sampler}-seed{seed}.json"


def is_done(out: Path, sampler: str, seed: int, n: int, rounds: int) -> bool:
    file = result_file(out, sampler, seed)
    if not file.exists():
        return False
    found = json.loads(file.read_text())
    if (found["n"], found["rounds"]) != (n, rounds):
        raise SystemExit(
            f"{file} is of other settings (n={found['n']}, rounds={found['rounds']}): choose another --out."
        )
    return True


def summarise(names: list[str], seeds: list[int], out: Path) -> None:
    """Area (mean accuracy over all rounds), accuracy at some budgets, and the differences in the mean."""
    results = {name: [json.loads(result_file(out, name, seed).read_text()) for seed in seeds] for name in names}
    counts = results[names[0]][0]["n_labelled"]
    places = [counts.index(count) for count in (40, 80) if count in counts] + [len(counts) - 1]
    heads = ["area", *(f"at {counts[place]}" for place in places)]
    print("\n" + f"{'':22}" + "".join(f"{head:>9}" for head in heads))

    def figures(curves: list[list[float]]) -> np.ndarray:
        mean = np.mean(curves, axis=0)
        return np.array([area_under_learning_curve(counts, mean, rule="mean"), *mean[places]])

    means = {}
    for name, runs in results.items():
        for run_ in runs:
            values = figures([run_["test_acc"]])
            print(f"{name + ', seed ' + str(run_['seed']):22}" + "".join(f"{v:9.4f}" for v in values))
        means[name] = figures([run_["test_acc"] for run_ in runs])
        print(f"{name + ', mean':22}" + "".join(f"{v:9.4f}" for v in means[name]))
    for name in names:
        if name != "random" and "random" in means:
            print(f"{name + ' - random':22}" + "".join(f"{v:+9.4f}" for v in means[name] - means["random"]))
    curves = {name: [(run_["n_labelled"], run_["test_acc"]) for run_ in runs] for name, runs in results.items()}
    learning_curves(curves, out / "learning_curves.png", title="MNIST: test accuracy against labels bought")
    print(f"\nPicture: {out / 'learning_curves.png'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1", help="comma-separated (default: 0,1)")
    parser.add_argument("--samplers", default="diffusion,random", help=f"of {', '.join(SAMPLERS)}")
    parser.add_argument("--n", type=int, default=10_000, help="images in the data set (default: 10,000)")
    parser.add_argument("--rounds", type=int, default=16, help="queries a run (default: 16)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="runs at a time (default: one a core)")
    parser.add_argument("--out", type=Path, default=Path("runs/mnist"))
    options = parser.parse_args()
    names, seeds = options.samplers.split(","), [int(seed) for seed in options.seeds.split(",")]
    unknown = [name for name in names if name not in SAMPLERS]
    if unknown:
        parser.error(f"unknown sampler {', '.join(unknown)}; there is {', '.join(SAMPLERS)}")
    options.out.mkdir(parents=True, exist_ok=True)
    settings = (options.n, options.rounds)
    jobs = [(name, seed) for seed in seeds for name in names if not is_done(options.out, name, seed, *settings)]
    if jobs:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(options.workers, len(jobs)), mp_context=context) as pool:
            futures = [pool.submit(run, name, seed, options.data, *settings, options.out) for name, seed in jobs]
            for future in as_completed(futures):
                future.result()
    summarise(names, seeds, options.out)


if __name__ == "__main__":
    main()
