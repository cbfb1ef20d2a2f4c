"""Two rounds of an unmodified model of another library, with people who disagree with its data set."""

import torch

from lightning_diffal import ActiveLearning, DiffusionSampler
from lightning_diffal._lightning import pl, running_eagerly
from tests.helpers import quiet_trainer


class Spy(DiffusionSampler):
    """Keeps the features of each query."""

    def __init__(self):
        super().__init__()
        self.features = []

    def select(self, data, query_size, generator):
        self.features.append(torch.as_tensor(data.features.copy()))
        return super().select(data, query_size, generator)


class Watch(pl.Callback):
    """Labels in the batches that train, and what the true layer is given after each round."""

    def __init__(self, shown, expected):
        self.shown, self.expected = shown, expected
        self.trained, self.layers = {}, []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.trained |= dict(self.shown(batch))

    def on_round_end(self, trainer):
        module = trainer.lightning_module
        modes = {part: part.training for part in module.modules()}
        with torch.no_grad(), running_eagerly():
            self.layers.append(self.expected(module.eval()).float().flatten(1))
        for part, mode in modes.items():
            part.training = mode


def input_of(layer, run):
    """What a layer is given while a function runs."""
    seen = []
    handle = layer.register_forward_pre_hook(lambda _module, args: seen.append(args[0].detach().clone()))
    try:
        run()
    finally:
        handle.remove()
    return torch.cat(seen)


def two_rounds(model, data, truth, shown, expected, n_classes=3, **kwargs):
    """Runs two rounds and asserts features and labels.

    Args:
        model: unmodified.
        data: an `ActiveDataModule` with 6 initial labels of its own.
        truth: the labels that the data set holds.
        shown: of a training batch, pairs of position and label.
        expected: of the model, `(N, D)` the input of its true head.
        n_classes: how many there are.
        kwargs: of `ActiveLearning`.
    """
    spy, watch = Spy(), Watch(shown, expected)

    def people(indices, items):
        return [(int(truth[i]) + 1) % n_classes for i in indices]

    active = ActiveLearning(spy, query_size=4, max_rounds=2, seed=0, oracle=people, run_dir=False, **kwargs)
    quiet_trainer([active, watch], max_epochs=1).fit(model, datamodule=data)
    assert [record.n_labelled for record in active.history] == [6, 10, 14]
    assert len(spy.features) == 2
    for features, layer in zip(spy.features, watch.layers, strict=False):
        torch.testing.assert_close(features, layer, atol=1e-4, rtol=1e-3)
    labelled = data.labelled_indices
    asked = labelled[data.pool.rounds_of(labelled) > 0].tolist()
    assert len(asked) == 8 and set(watch.trained) == set(labelled.tolist())
    for i in labelled.tolist():
        assert watch.trained[i] == (int(truth[i]) + (1 if i in asked else 0)) % n_classes
    return active
