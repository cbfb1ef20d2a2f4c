"""A sampler of your own in twenty lines, checked and compared with ours on a model of your own.

python examples/own_sampler.py [--quick]
"""

import argparse

import numpy as np
from quickstart import Model

from lightning_diffal import ActiveDataModule, DiffusionSampler, Query, QueryData, QuerySampler, datasets
from lightning_diffal.comparison import compare_samplers
from lightning_diffal.samplers import check_query_sampler


class FarthestSampler(QuerySampler):
    """The points that lie farthest from all labelled ones."""

    requires = frozenset({"features"})

    def select(self, data: QueryData, query_size: int, generator: np.random.Generator) -> Query:
        candidates, labelled = data.features[data.candidates], data.features[data.labelled]
        if len(labelled):
            distance = np.min(np.linalg.norm(candidates[:, None] - labelled[None], axis=2), axis=1)
        else:
            distance = generator.random(len(candidates))
        order = np.argsort(-distance, kind="stable")[:query_size]
        return Query(data.candidates[order], distance[order])  # positions in the full training data set


def task(seed: int):
    """A fresh model and data module for each run: your own come here."""
    train_set, test_set = datasets.digits()
    return Model(), ActiveDataModule(
        train_set, test_dataset=test_set, initial_labels=10, batch_size=32, seed=seed
    )  # fmt: skip


def main(quick: bool = False) -> None:
    check_query_sampler(FarthestSampler())  # the contract that all built-in samplers keep
    result = compare_samplers(
        task,
        {"diffusion": DiffusionSampler(), "farthest": FarthestSampler()},
        seeds=range(1 if quick else 5),
        query_size=10,
        rounds=1 if quick else 10,
        trainer_kwargs={"max_epochs": 2 if quick else 40, "accelerator": "cpu"},
        progress=not quick,
    )
    print(result.table(reach=[0.8]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed, one round")
    main(parser.parse_args().quick)
