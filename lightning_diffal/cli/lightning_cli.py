"""What `diffal fit` does: a LightningCLI with the arguments of `ActiveLearning` beside model, data and Trainer."""

from __future__ import annotations

import argparse
import os
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from lightning_diffal import oracle, samplers, stopping
from lightning_diffal._lightning import LightningCLI, MisconfigurationException, callbacks_of, pl, was_interrupted
from lightning_diffal.callback import ActiveLearning
from lightning_diffal.cli.kept_config import KeptConfig
from lightning_diffal.cli.refused_arguments import refusal
from lightning_diffal.data.datamodule import ActiveDataModule
from lightning_diffal.exceptions import ConfigurationError, DiffalError
from lightning_diffal.fresh_trainers import next_query
from lightning_diffal.run.resuming.checkpoint import KEY
from lightning_diffal.selection.files import check_out, read_labels
from lightning_diffal.spreadsheets.points import PointReader
from lightning_diffal.spreadsheets.write import add_rows, content_of, query_rows
from lightning_diffal.utils.extras import require
from lightning_diffal.utils.storage.files import replacing

__all__ = ["SHORT_HELP", "FitCLI", "Labelled", "run_fit", "run_next"]

KNOWN = (oracle, samplers, stopping)
"""Imported so that their classes are known by their short names."""

_OF_LIGHTNING = r"(?s).*(was deprecated in v|JSONARGPARSE_DEPRECATION_WARNINGS)"
CHECKPOINT_WORDS = ("best", "last", "hpc")

USAGE = "diffal fit --model CLASS --data CLASS [--active.ARG ...] [--trainer.ARG ...] [--config FILE]"

DESCRIPTION = """Active learning with your own model and data: train, ask for labels, label, train again.

CLASS is a class by its path, such as my_package.MyModel; modules are looked for in the current folder too. An argument
of a class goes behind its name: --model.width 64, --active.sampler.n_neighbors 20. Classes of this package go by their
short names: DiffusionSampler, MarginSampler, StablePredictions. Arguments may be in a file as well; those on the
command line override it. To write a file with all of them, add --print_config > run.yaml.

    diffal fit --model my.Model --data my.Data --labelled.initial_labels 20 \\
        --active.query_size 10 --active.max_rounds 15 --active.run_dir runs/first --trainer.max_epochs 20
    diffal fit --config run.yaml --active.stopping StablePredictions

With --active.run_dir everything is kept in that folder, checkpoints and logs too, and the same command goes on
from there: after a kill, when answers have arrived, or with more rounds. --trainer.max_epochs and its kin mean: per
round."""

SHORT_HELP = f"""usage: {USAGE}

{DESCRIPTION}

What people set most:
  --model CLASS                     what trains: a LightningModule
  --data CLASS                      an ActiveDataModule, or any LightningDataModule
  --labelled.initial_labels N       points labelled at the start (for a data module that knows of no labels)
  --labelled.class_names [a,b,...]  names of the classes, for people
  --active.sampler CLASS            who chooses (default: DiffusionSampler)
  --active.query_size N             points asked per round (default: 10)
  --active.max_rounds N             queries in all (default: 10)
  --active.oracle CLASS             who answers: FileOracle, LabelStudioOracle (default: the data set itself)
  --active.run_dir DIR              where everything is kept, and where the same command goes on
  --trainer.max_epochs N            per round
  --seed N                          of everything that is drawn (default: 0)
  --config FILE, --print_config     arguments from a file; all of them as a file

Every argument: diffal fit --help-all"""

TITLES = {
    "model": "What trains",
    "data": "Your data module: an ActiveDataModule, or any other, for which `labelled` says more",
    "labelled": "Who is labelled at the start, for a data module that knows nothing of active learning",
    "active": "Active learning: what is asked, who answers, when to stop",
    "trainer": "Lightning's Trainer, in every round",
    "optimizer": "An optimizer, for a model without `configure_optimizers`",
    "lr_scheduler": "Its learning rate schedule",
}


@dataclass
class Labelled:
    """Who is labelled at the start, and where labels sit: for a --data that knows nothing of active learning.

    An ActiveDataModule takes these itself (--data.initial_labels ...).

    Args:
        initial_labels: how many points to label at the start, drawn with `seed`, or which ones (their positions in the
            training data set). 0: the first query chooses them.
        stratified: draw the initial points evenly over the classes.
        val_fraction: share of the labelled points that validate instead of train.
        num_classes: default: as many as `class_names`, else as the model has outputs.
        class_names: names of the classes, for people.
        target: where an item holds its label: a position, a key, or `auto`.
        pool_batch_size: batch size of the pass over the whole data set. Default: that of training.
        seed: of the initial draw.
    """

    initial_labels: int | list[int] = 0
    stratified: bool = False
    val_fraction: float = 0.0
    num_classes: int | None = None
    class_names: list[str] | None = None
    target: int | str = "auto"
    pool_batch_size: int | None = None
    seed: int = 0

    def given(self) -> dict[str, Any]:
        """The arguments that are not at their defaults.

        Example:
            >>> Labelled(initial_labels=5).given()
            {'initial_labels': 5}
        """
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}


class FitCLI(LightningCLI):
    """Model, data, labels, active learning and Trainer from a command line or a file.

    Args:
        arguments: the command line.
        command: of `diffal`, for messages.
    """

    def __init__(self, arguments: Sequence[str], command: str = "fit") -> None:
        self._command = command
        arguments, self._one_seed = _with_seed(arguments)
        plain = require("jsonargparse", extra="cli").DefaultHelpFormatter
        formatter = type("Formatter", (argparse.RawDescriptionHelpFormatter, plain), {})
        words = {"prog": "diffal fit", "usage": USAGE, "description": DESCRIPTION, "formatter_class": formatter}
        super().__init__(
            pl.LightningModule,
            pl.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,  # it writes into folders of loggers, or over a config.yaml where it was called
            seed_everything_default=0,  # the same command makes the same run
            parser_kwargs=words,
            args=list(arguments),
            run=False,
        )

    def init_parser(self, **kwargs: Any) -> Any:
        """As Lightning does, with messages of one line."""
        parser = super().init_parser(**kwargs)

        def error(message: str, ex: Exception | None = None) -> NoReturn:
            options = [name for action in parser._actions for name in action.option_strings]
            said = refusal(message, options)
            if self._one_seed:
                said = said.replace("--seed_everything", "--seed")
            print(f"diffal {self._command}: {said}", file=sys.stderr)
            print(f"usage: {USAGE}\nAll arguments: diffal fit --help", file=sys.stderr)
            raise SystemExit(2) from ex

        parser.error = error  # type: ignore[method-assign]
        return parser

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:
        """As Lightning does, with titles for people."""
        super().setup_parser(*args, **kwargs)
        groups: Any = self.parser.groups
        for name, title in TITLES.items():
            groups[name].title = title

    def add_core_arguments_to_parser(self, parser: Any) -> None:
        """In the order in which people need them."""
        parser.add_lightning_class_args(pl.LightningModule, "model", subclass_mode=True)
        parser.add_lightning_class_args(pl.LightningDataModule, "data", subclass_mode=True)
        parser.add_class_arguments(Labelled, "labelled")
        parser.add_lightning_class_args(ActiveLearning, "active")
        parser.add_argument("--ckpt_path", type=str | None, help="Go on from this checkpoint of Lightning's.")
        parser.add_lightning_class_args(self.trainer_class, "trainer")

    def before_instantiate_classes(self) -> None:
        """Keep checkpoints and logs in the run's folder, where nobody named another place."""
        config = self.config
        if config.active.run_dir and config.trainer.default_root_dir is None:
            config.trainer.default_root_dir = str(config.active.run_dir)
        if self._one_seed and config.labelled.seed == Labelled.seed:
            config.labelled.seed = config.seed_everything

    def parse_arguments(self, parser: Any, args: Any) -> None:
        """As Lightning does, without its warning that there is a real command line too."""
        self.config = parser.parse_args(args)
        seed = self.config.seed_everything
        if not isinstance(seed, bool) and not 0 <= seed < 2**32:
            name = "--seed" if self._one_seed else "--seed_everything"
            raise ConfigurationError(f"Expected {name} to be between 0 and {2**32 - 1}, but got {seed}.")

    @property
    def active(self) -> ActiveLearning:
        """The callback that was configured."""
        return ActiveLearning.from_trainer(self.trainer)

    def active_data(self) -> ActiveDataModule:
        """The data module, wrapped where it knows nothing of active learning.

        Raises:
            ConfigurationError: it knows, and `--labelled` was given too.
        """
        labelled: dict[str, Any] = self.config_init.labelled.given()
        if not isinstance(self.datamodule, ActiveDataModule):
            return ActiveDataModule.from_datamodule(self.datamodule, **labelled)
        if labelled.get("seed") == self.config.seed_everything:  # `--seed`, which is for everything
            del labelled["seed"]
        if labelled:
            name = next(iter(labelled))
            raise ConfigurationError(
                f"--labelled.{name} is for data modules that know nothing of active learning, but "
                f"{type(self.datamodule).__name__} is an ActiveDataModule: give --data.{name} instead."
            )
        return self.datamodule

    def configured(self) -> str:
        """What was configured, in a form that `--config` reads."""
        with _lightnings_own_business():
            text: str = self.parser.dump(self.config, skip_none=False)
        return text


def run_fit(arguments: Sequence[str]) -> None:
    """Configure, train and ask until the run ends; then say how it went.

    Args:
        arguments: what follows `diffal fit`.

    Raises:
        SystemExit: `--help`, `--print_config`, or arguments that cannot be parsed.
        ConfigurationError: arguments that Lightning or this package refuses.
    """
    cli = _configured(arguments)
    data, active, checkpoint = cli.active_data(), cli.active, cli.config.ckpt_path
    if checkpoint not in (None, *CHECKPOINT_WORDS) and not Path(checkpoint).exists():
        raise ConfigurationError(
            f"Expected --ckpt_path to be a checkpoint or one of {', '.join(CHECKPOINT_WORDS)}, but {checkpoint} does "
            "not exist."
        )
    if active.run_dir:
        kept = KeptConfig(Path(active.run_dir), cli.configured())
        kept.check()
        callbacks_of(cli.trainer).append(_KeepConfig(kept))
    try:
        cli.trainer.fit(cli.model, datamodule=data, ckpt_path=checkpoint)
    except MisconfigurationException as error:
        raise ConfigurationError(_reason(error)) from error
    except SystemExit:  # Lightning's way out after Ctrl-C
        if not was_interrupted(cli.trainer):
            raise
    if was_interrupted(cli.trainer):
        print(_where_kept(active), file=sys.stderr)
        raise KeyboardInterrupt
    if cli.trainer.is_global_zero:
        print(_summary(active))


def _with_seed(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """`--seed` is Lightning's `--seed_everything`, and seeds the initial labels too: one seed for all."""
    found = [re.sub(r"^--seed(?==|$)", "--seed_everything", argument) for argument in arguments]
    return found, found != list(arguments)


@contextmanager
def _lightnings_own_business() -> Iterator[None]:
    """Without jsonargparse's warnings of what Lightning calls by old names."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_OF_LIGHTNING, category=DeprecationWarning)
        yield


def _configured(arguments: Sequence[str], command: str = "fit") -> FitCLI:
    if os.getcwd() not in sys.path:  # noqa: PTH109  # as `python -m` has it; the installed command does not
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        with _lightnings_own_business():
            return FitCLI(arguments, command)
    except (ValueError, MisconfigurationException) as error:  # arguments that a class refuses
        raise ConfigurationError(_reason(error)) from error


def run_next(arguments: Sequence[str], checkpoint: Path, query_size: int, labels: Sequence[Path], out: Path) -> str:
    """Choose points by a trained model, and write them as a query file.

    Args:
        arguments: of `diffal fit`, which say what model and data are.
        checkpoint: holds the weights; that of a run also what is labelled.
        query_size: how many points to choose.
        labels: query files that were filled in.
        out: the query file.

    Returns:
        What was done.

    Raises:
        ConfigurationError: a checkpoint of another model, arguments that are refused, nothing left to choose.
    """
    check_out(out, [checkpoint, *labels])
    if not checkpoint.is_file():
        raise ConfigurationError(f"Expected --ckpt to be a checkpoint, but {checkpoint} is not a file.")
    cli = _configured([*arguments, "--active.query_size", str(query_size)], "next")
    data, active = cli.active_data(), cli.active
    callbacks_of(cli.trainer).remove(active)
    try:
        saved = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything where a file is not one of its own
        raise ConfigurationError(
            f"Expected --ckpt to be a checkpoint that torch reads with weights_only=True, but {checkpoint} is not "
            f"({type(error).__name__})."
        ) from error
    try:
        cli.model.load_state_dict(saved["state_dict"])
    except (RuntimeError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"The weights in {checkpoint} are not those of {type(cli.model).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
    data.prepare_data()
    data.setup("fit")
    if KEY in saved:
        data.restore(saved[KEY]["data"])
    if labels:
        points = PointReader(len(data.pool), None if data.pool.ids is None else list(data.pool.ids))
        known = read_labels(list(labels), points, data.class_names)
        new = {index: label for index, label in known.labels.items() if index in set(data.pool_indices.tolist())}
        data.label(list(new), list(new.values()))
    query = next_query(cli.trainer, cli.model, data, active)
    pool = data.pool
    rows = query_rows(
        query.indices.tolist(),
        query,
        pool.id_of,
        lambda index: pool.labels_of(np.array([index])).get(index),
        data.class_names,
        lambda index: content_of(data, index),
    )
    with replacing(out) as temporary:
        add_rows(temporary, rows, "utf-8" if out.suffix == ".jsonl" else "utf-8-sig")
    return (
        f"{len(data.labelled_indices):,} of {len(pool):,} points are labelled; {len(query):,} chosen.\n"
        f"Fill in the column `label` of {out}, and give it with --labels next time."
    )


class _KeepConfig(pl.Callback):
    """Writes the settings into the run's folder once the run has taken them: refused ones must not replace its own."""

    def __init__(self, kept: KeptConfig) -> None:
        self.kept = kept

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            self.kept.write()


def _reason(error: BaseException) -> str:
    """An error as one line: what this package said, where jsonargparse has put a page around it."""
    found: BaseException | None = error
    while found is not None and not isinstance(found, DiffalError):
        found = found.__cause__
    return " ".join(str(error if found is None else found).split())


def _summary(active: ActiveLearning) -> str:
    if not len(active.history):  # fast_dev_run
        return "Nothing was asked, and nothing was kept."
    lines = [str(active.history), "", f"Ended: {active.history[-1].stop_reason}.", _where_kept(active)]
    return "\n".join(line for line in lines if line is not None).rstrip()


def _where_kept(active: ActiveLearning) -> str:
    folder = None if active._context.folder is None else active._context.folder.path
    if folder is None:
        return ""
    added = "" if active.run_dir else f", with --active.run_dir {folder}"
    return (
        f"Kept in {folder}. Look at it: diffal report {folder}\n"
        f"To go on (with more rounds, or answers): the same command{added}"
    )
