"""What a round costs beside training: on digits against independent fits, on 60,000 images part by part.

    OMP_NUM_THREADS=1 python tests/benchmarks/rounds.py [--images 60000]

Times are seconds of the processor, with those of the clock in brackets: other work on the machine stretches the latter.
"""

from __future__ import annotations

import argparse
import cProfile
import logging
import pstats
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

from lightning_diffal import ActiveDataModule, ActiveLearning, DiffusionSampler
from lightning_diffal._lightning import pl
from lightning_diffal.samplers import MarginSampler

QUIET = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}


def perceptron(n_inputs: int, width: int = 64) -> Network:
    return Network(nn.Flatten(), nn.Linear(n_inputs, width), nn.ReLU(), nn.Linear(width, 10))


def convolutional() -> Network:
    """The network of the quick start, for images of 8 x 8."""
    head = (nn.Flatten(), nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Linear(64, 10))
    return Network(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), *head)


class Network(pl.LightningModule):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch, _index):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def predict_step(self, batch, _index):
        return self(batch[0])

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-3)


def spent() -> np.ndarray:
    return np.array([time.process_time(), time.perf_counter()])


def told(seconds: np.ndarray) -> str:
    return f"{seconds[0]:.2f} s ({seconds[1]:.2f})"


def trainer(epochs: int, *callbacks: pl.Callback) -> pl.Trainer:
    return pl.Trainer(max_epochs=epochs, accelerator="cpu", callbacks=list(callbacks), **QUIET)


def digits(name: str, make: Callable[[], Network], rounds: int, epochs: int) -> None:
    """Rounds with the default sampler, and fits of fresh Trainers on the same points, each with a pass over all."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(images / 16, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(labels))
    ratios = []
    for repetition in range(4):
        with tempfile.TemporaryDirectory() as folder:
            active = ActiveLearning(DiffusionSampler(), query_size=10, max_rounds=rounds, seed=0, run_dir=folder)
            start = spent()
            trainer(epochs, active).fit(make(), datamodule=ActiveDataModule(data, initial_labels=20, num_classes=10))
            looped = spent() - start
        start = spent()
        for record in active.history:
            model, alone = make(), trainer(epochs)
            alone.fit(model, DataLoader(Subset(data, record.labelled.tolist()), batch_size=32, shuffle=True))
            alone.predict(model, DataLoader(data, batch_size=32))
        apart = spent() - start
        if repetition:  # the first one imports and compiles
            ratios.append(looped / apart)
            print(
                f"digits, {name}, {len(active.history)} rounds: {told(looped)}, independent fit + predict {told(apart)}"
            )
    ratio = np.median(ratios, axis=0)
    print(f"digits, {name}: a round costs {ratio[0]:.2f} times a fit plus predict ({ratio[1]:.2f} by the clock)")


def images(n_points: int, profiled: bool) -> None:
    """Two rounds on images; what is neither training, nor the pass over the data, nor the choice."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(10, (n_points,), generator=rng)
    pixels = torch.randn(10, 1, 28, 28, generator=rng)[labels] + torch.randn(n_points, 1, 28, 28, generator=rng)
    data = TensorDataset(pixels, labels)
    for sampler in (MarginSampler(), DiffusionSampler()):
        module = ActiveDataModule(data, initial_labels=100, num_classes=10, pool_batch_size=512)
        with tempfile.TemporaryDirectory() as folder:
            active = ActiveLearning(sampler, query_size=100, max_rounds=3, seed=0, run_dir=folder)
            profile = cProfile.Profile(time.process_time)
            start = spent()
            fit = partial(trainer(2, active).fit, perceptron(784), datamodule=module)
            profile.runcall(fit) if profiled else fit()
            total = spent() - start
        seconds: dict[str, float] = {}
        for record in active.history:
            for name, value in record.seconds.items():
                seconds[name] = seconds.get(name, 0.0) + value
        parts = ", ".join(f"{name} {value / len(active.history):.2f}" for name, value in seconds.items())
        rest = (total[1] - sum(seconds.values())) / len(active.history)
        print(
            f"{n_points:,} images, {type(sampler).__name__}: {told(total / len(active.history))} per round; "
            f"by the clock {parts}, the rest {rest:.2f}, {rest / n_points * 10_000:.3f} per 10,000 points"
        )
        if not profiled:
            continue
        stats = pstats.Stats(profile).stats
        own = [(spent_in, place, name) for (place, _, name), (_, _, _, spent_in, _) in stats.items()]
        for spent_in, place, name in sorted(own, reverse=True)[:200]:
            if "lightning_diffal" in place and spent_in > 0.05:
                print(f"    {spent_in / len(active.history):6.3f} {place.partition('lightning_diffal/')[2]} {name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--images", type=int, default=60_000)
    parser.add_argument(
        "--profile", action="store_true", help="name the functions that take long (all of it is slower)"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    digits("a perceptron", lambda: perceptron(64), options.rounds, options.epochs)
    digits("a convolutional network", convolutional, options.rounds, options.epochs)
    images(options.images, options.profile)


if __name__ == "__main__":
    main()
