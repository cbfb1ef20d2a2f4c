"""Small networks to compare samplers with: convolutional, fully connected, linear."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from lightning_diffal._lightning import pl
from lightning_diffal.exceptions import ConfigurationError

__all__ = ["MODELS", "Classifier", "network"]

MODELS = ("conv", "mlp", "linear")

_SMALL_IMAGE = 16  # pixels a side up to which an image is learnt in a few hundred steps, whatever their number


class Classifier(pl.LightningModule):
    """A small network with cross-entropy. Nothing in it knows of active learning but the hook that sets the epochs.

    The test step logs `test_acc` and, as the mean of the classes' recalls, `test_balanced_acc`.

    Args:
        kind: `"conv"`, `"mlp"` or `"linear"`.
        shape: of an item: `(channels, height, width)` or `(D,)`.
        num_classes: `C`.
        n_steps: optimizer steps of a training, in which the learning rate rises and falls once. `None`: a constant rate
            and about 6,000 examples, in 15 to 60 epochs, set in each round by how many points train; at most 80,000.

    Raises:
        ConfigurationError: a network that does not take items of this shape.

    Example:
        >>> Classifier("conv", (1, 8, 8), 10)(torch.zeros(2, 1, 8, 8)).shape
        torch.Size([2, 10])
    """

    def __init__(self, kind: str, shape: tuple[int, ...], num_classes: int, *, n_steps: int | None = None) -> None:
        super().__init__()
        self.net = network(kind, shape, num_classes)
        # pooling large images is several times as fast on a processor with channels last
        self.layout = torch.channels_last if len(shape) == 3 and not is_small(shape) else torch.contiguous_format
        self.net.to(memory_format=self.layout)  # type: ignore[call-overload]  # documented, and not in the stub
        self.n_steps = n_steps
        self.accuracy = MulticlassAccuracy(num_classes=num_classes, average="micro")
        self.balanced_accuracy = MulticlassAccuracy(num_classes=num_classes, average="macro")

    def forward(self, items: Tensor) -> Tensor:
        """Class scores `(B, C)`."""
        scores: Tensor = self.net(items.contiguous(memory_format=self.layout))
        return scores

    def on_round_start(self, trainer: Any) -> None:
        """Set how long this round trains; few labels need more epochs, about as many steps in each round."""
        if self.n_steps is None:
            n_items = len(trainer.datamodule.training_dataset)
            # 15 epochs at least, but not for the many points that pseudo-labels add
            least = min(15, -(-80_000 // n_items))
            trainer.fit_loop.max_epochs = max(least, min(60, 6000 // n_items))
        else:
            trainer.fit_loop.epoch_loop.max_steps = self.n_steps

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Cross-entropy of a batch."""
        items, labels = batch
        return nn.functional.cross_entropy(self(items), labels)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Both accuracies."""
        items, labels = batch
        scores = self(items)
        self.accuracy(scores, labels)
        self.balanced_accuracy(scores, labels)
        self.log_dict({"test_acc": self.accuracy, "test_balanced_acc": self.balanced_accuracy})

    def configure_optimizers(self) -> Any:
        """Adam."""
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3, weight_decay=1e-4)
        if self.n_steps is None:
            return optimizer
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=self.n_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def network(kind: str, shape: tuple[int, ...], num_classes: int) -> nn.Sequential:
    """The network itself; its last layer is linear, and what goes into that are the features.

    Args:
        kind: `"conv"`: two layers of 3 x 3 filters, each halving the image, then 64 features. `"mlp"`: one hidden layer
            of 128. `"linear"`.
        shape: of an item.
        num_classes: `C`.

    Raises:
        ConfigurationError: an unknown kind, or `"conv"` for vectors or for images below 4 x 4.

    Example:
        >>> [part.out_features for part in network("mlp", (50,), 3) if isinstance(part, nn.Linear)]
        [128, 3]
    """
    if kind == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(_size(shape), num_classes))
    if kind == "mlp":
        return nn.Sequential(
            *(nn.Flatten(), nn.Linear(_size(shape), 128), nn.ReLU(), nn.Dropout(0.25), nn.Linear(128, num_classes))
        )
    if kind != "conv":
        raise ConfigurationError(f"Expected argument `model` to be one of {', '.join(MODELS)}, but got {kind!r}.")
    if len(shape) != 3 or min(shape[1:]) < 4:
        raise ConfigurationError(
            f"Expected images of at least 4 x 4 pixels for the model 'conv', but items have shape {shape}: take 'mlp'."
        )
    channels, height, width = shape
    n = 32 if is_small(shape) else 16  # small images are so cheap that more filters cost nothing
    return nn.Sequential(
        *(nn.Conv2d(channels, n, 3, padding=1), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(n, 2 * n, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(2 * n * (height // 4) * (width // 4), 64), nn.ReLU(), nn.Dropout(0.25)),
        nn.Linear(64, num_classes),
    )


def is_small(shape: tuple[int, ...]) -> bool:
    """Whether items are vectors, or images of at most 16 x 16 pixels."""
    return len(shape) < 3 or max(shape[1:]) <= _SMALL_IMAGE


def _size(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())
