"""`diffal select`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lightning_diffal.cli.arguments import count, older_spelling

__all__ = ["add_parser"]

_SAMPLERS = {
    "diffusion": "DiffusionSampler",
    "random": "RandomSampler",
    "coreset": "CoreSetSampler",
    "typiclust": "TypiClustSampler",
    "probcover": "ProbCoverSampler",
}
_EXAMPLE = """\
A first choice, then one that knows the labels filled in, and so on:

  diffal select --features emb.npy -n 100 --out query-1.csv
  diffal select --features emb.npy --labels query-1.csv -n 100 --out query-2.csv
  diffal select --features emb.npy --labels query-1.csv query-2.csv -n 100 --out query-3.csv

Write a class name or number into the column `label`; leave it empty where there is no label yet; `?` or `skip`
says that nobody can tell.
"""


def add_parser(commands: Any) -> None:
    """Add the command to those of `diffal`.

    Args:
        commands: what `ArgumentParser.add_subparsers` gave.
    """
    words = "what to label next, from embeddings and a few labels, without any model"
    parser = commands.add_parser(
        "select",
        help=words,
        description=f"Say {words}.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--features",
        type=Path,
        nargs="+",
        required=True,
        metavar="FILE",
        help="embeddings (N, D): .npy, .npz or .parquet; several files, or a folder of them, are read as one array",
    )
    parser.add_argument("--key", help="name of the array in an .npz that holds several, or of a Parquet file's column")
    parser.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="keep finished stages here: a choice that was killed goes on, the next one starts with the graph",
    )
    parser.add_argument(
        "--labels",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="CSV or .jsonl with columns `id` or `index` and `label`; query files that were filled in, too "
        "(default: none, and the choice covers the data)",
    )
    parser.add_argument("-n", "--query-size", type=count, default=10, help="how many points to choose (default: 10)")
    parser.add_argument("--out", type=Path, default=Path("query.csv"), help="CSV or .jsonl (default: query.csv)")
    parser.add_argument(
        "--ids",
        type=Path,
        help="a name for each point: one per line, or a CSV with a column `id`, and `text` or `path` for people",
    )
    parser.add_argument("--pending", type=Path, nargs="+", default=[], metavar="FILE", help="points asked already")
    parser.add_argument("--class-names", nargs="+", metavar="NAME", help="all classes (default: those in the labels)")
    parser.add_argument("--sampler", choices=list(_SAMPLERS), default="diffusion", help="(default: diffusion)")
    parser.add_argument(
        "--distance", dest="metric", choices=["euclidean", "cosine"], help="between embeddings (default: euclidean)"
    )
    older_spelling(parser, "--metric", dest="metric", choices=["euclidean", "cosine"])
    parser.add_argument("--n-neighbors", type=count, help="neighbours of a point, for diffusion and typiclust")
    parser.add_argument("--seed", type=int, default=0, help="of ties and random choices (default: 0)")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from lightning_diffal import samplers  # torch takes seconds
    from lightning_diffal.exceptions import ConfigurationError
    from lightning_diffal.selection.files import check_out
    from lightning_diffal.selection.select import select_from_files
    from lightning_diffal.utils.phases import listening

    given = {"metric": options.metric, "n_neighbors": options.n_neighbors}
    given = {name: value for name, value in given.items() if value is not None}
    try:
        sampler = getattr(samplers, _SAMPLERS[options.sampler])(**given)
    except TypeError:
        typed = {"metric": "--distance", "n_neighbors": "--n-neighbors"}
        names = " and ".join(typed[name] for name in given)
        raise ConfigurationError(f"The sampler {options.sampler} does not take {names}.") from None
    if options.seed < 0:
        raise ConfigurationError(f"Expected --seed to be at least 0, but got {options.seed}.")
    inputs = [*options.features, *options.labels, *options.pending, *([options.ids] if options.ids else [])]
    check_out(options.out, inputs)
    with listening(_Bars()):
        chosen = select_from_files(
            options.features,
            options.query_size,
            labels=options.labels,
            ids=options.ids,
            pending=options.pending,
            key=options.key,
            class_names=options.class_names,
            sampler=sampler,
            seed=options.seed,
            work=options.work,
        )
    chosen.write(options.out)
    features = chosen.data.features
    if features is not None and (features[:1000] == features[0]).all() and (features == features[0]).all():
        print("All embeddings are equal, so nothing tells the points apart: the choice is arbitrary.")
    if len(chosen.query) < options.query_size:
        print(f"Asked for {options.query_size:,} points, but only {len(chosen.query):,} were left to choose from.")
    print(
        f"{chosen}\nFill in the column `label` of {options.out}, and give it with --labels next time; or label in the "
        f"browser: diffal label {options.out} --classes A,B --out labels.csv"
    )
    return 0


class _Bars:
    """A bar for each stage that takes more than a second, with the time that is left."""

    def __init__(self) -> None:
        self._stage = ""
        self._bar: Any = None

    def __call__(self, stage: str, done: int | None, total: int | None) -> None:
        if done is None or total is None:
            return
        try:
            from tqdm import tqdm
        except ModuleNotFoundError:
            return
        if stage != self._stage:
            if self._bar is not None:
                self._bar.close()
            self._stage = stage
            self._bar = tqdm(total=total, desc=stage, unit=" points", unit_scale=True, delay=1.0)
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._bar.close()
            self._stage = ""
