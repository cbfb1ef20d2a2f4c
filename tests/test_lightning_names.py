"""Each private name of Lightning that the package touches; and only `_lightning` touches them."""

import re
from importlib import import_module
from pathlib import Path

import pytest
from torch.utils.data import SubsetRandomSampler

import lightning_diffal
from lightning_diffal._lightning import (
    NAMESPACE,
    FitLoop,
    MultiProcessingLauncher,
    TrainerFn,
    pl,
    pl_callbacks,
    user_sampler,
)
from tests.helpers import quiet_trainer

FABRIC = "lightning.fabric" if NAMESPACE == "lightning.pytorch" else "lightning_fabric"
DistributedSamplerWrapper = import_module(f"{FABRIC}.utilities.distributed").DistributedSamplerWrapper
PACKAGE = Path(lightning_diffal.__file__).parent
# beginnings of private attributes of Lightning's objects, wherever they are read or written
PRIVATE = (
    "_batches_that_stepped|_combined_loader|_data_fetcher|_data_source|_last_checkpoint_saved|_last_global_step_saved|"
    "_logger_connector|_on_before_batch_transfer|_results|_callback_metrics|_checkpoint_connector|_data_connector|_run_sanity_check|"
    "_last_train_dl_reload_epoch|_last_val_dl_reload_epoch|_should_reload_train_dl"
)


def test_lightning_is_imported_and_touched_in_one_place_only():
    imports = re.compile(r"^\s*(import|from)\s+(pytorch_lightning|lightning)\b", re.MULTILINE)
    touches = re.compile(rf"\.({PRIVATE})\b")
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.parent == PACKAGE / "_lightning":
            assert bool(imports.search(text)) == (path.name == "names.py"), f"{path} imports Lightning"
        else:
            assert not imports.search(text), f"{path} imports Lightning"
            assert not touches.search(text), f"{path} touches a private name: {touches.search(text)}"


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (lambda t: t.fit_loop, "_data_source"),
        (lambda t: t.fit_loop, "_combined_loader"),
        (lambda t: t.fit_loop, "_data_fetcher"),
        (lambda t: t.fit_loop, "_last_train_dl_reload_epoch"),
        (lambda t: t.fit_loop, "_should_reload_train_dl"),
        (lambda t: t.fit_loop, "setup_data"),
        (lambda t: t.fit_loop, "teardown"),
        (lambda t: t.fit_loop.epoch_loop.val_loop, "_last_val_dl_reload_epoch"),
        (lambda t: t.fit_loop.epoch_loop.val_loop, "_combined_loader"),
        (lambda t: t, "_run_sanity_check"),
        (lambda t: t, "num_sanity_val_steps"),
        (lambda t: t, "enable_validation"),
        (lambda t: t, "reload_dataloaders_every_n_epochs"),
        (lambda t: t.fit_loop, "min_steps"),
        (lambda t: t.fit_loop.epoch_loop, "_batches_that_stepped"),
        (lambda t: t.fit_loop.epoch_loop.val_loop, "_data_source"),
        (lambda t: t._logger_connector, "reset_results"),
        (lambda t: t._logger_connector, "reset_metrics"),
        (lambda t: t.test_loop, "verbose"),
        (lambda t: t.validate_loop, "run"),
        (lambda t: t.strategy, "setup_optimizers"),
        (lambda t: t.strategy, "setup_precision_plugin"),
        (lambda t: t.strategy, "batch_to_device"),
        (lambda t: t.precision_plugin, "predict_step_context"),
        (lambda t: t.precision_plugin, "convert_input"),
        (lambda t: t.state, "stage"),
        (lambda t: pl_callbacks.ModelCheckpoint(), "_last_global_step_saved"),
        (lambda t: pl_callbacks.ModelCheckpoint(), "best_k_models"),
        (lambda t: pl_callbacks.ModelCheckpoint(), "kth_value"),
        (lambda t: pl_callbacks.ModelCheckpoint(), "kth_best_model_path"),
        (lambda t: pl_callbacks.ModelCheckpoint(), "current_score"),
        (lambda t: pl.LightningModule(), "_on_before_batch_transfer"),
    ],
)
def test_name_exists(owner, name):
    assert hasattr(owner(quiet_trainer()), name)


def test_samplers_that_lightning_puts_around_ours_can_be_opened():
    ours = SubsetRandomSampler([3, 1])
    assert user_sampler(DistributedSamplerWrapper(ours, num_replicas=2, rank=0)) is ours
    assert isinstance(MultiProcessingLauncher, type)


def test_loops_are_built_as_the_trainer_builds_them():
    trainer = quiet_trainer(max_epochs=4, min_epochs=2)
    assert type(trainer.fit_loop) is FitLoop and TrainerFn.FITTING == "fit"
    fresh = FitLoop(trainer, min_epochs=2, max_epochs=4)
    fresh.epoch_loop = type(trainer.fit_loop.epoch_loop)(trainer, min_steps=1, max_steps=7)
    assert (fresh.min_epochs, fresh.max_epochs, fresh.min_steps, fresh.max_steps) == (2, 4, 1, 7)
    assert fresh.__dict__.keys() == trainer.fit_loop.__dict__.keys()
