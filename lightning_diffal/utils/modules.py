"""What a model holds: its weights, copied and put back, and what `state_dict` does not know of."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Unsaved", "put_weights", "weights_of"]


class Unsaved:
    """Which parts of a module train, which parameters are frozen, and buffers that are not saved, as they are now.

    A model that thaws its backbone in some epoch would else begin the next round thawed, and a resumed process frozen.

    Args:
        module: as it was made.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 3), nn.Dropout())
        >>> unsaved = Unsaved(model.requires_grad_(False))
        >>> _ = model.requires_grad_(True).eval()
        >>> unsaved.put_back(model)
        >>> model[0].weight.requires_grad, model[1].training
        (False, True)
    """

    def __init__(self, module: nn.Module) -> None:
        self.modes = {name: part.training for name, part in module.named_modules()}
        self.trained = {name: parameter.requires_grad for name, parameter in module.named_parameters()}
        saved = module.state_dict().keys()
        buffers = ((name, buffer) for name, buffer in module.named_buffers() if name not in saved)
        self.buffers = {name: buffer.detach().cpu().clone() for name, buffer in buffers}

    def put_back(self, module: nn.Module) -> None:
        """Make it all as it was; parts that came since are left alone.

        Args:
            module: the same one, or one made the same way.
        """
        for name, part in module.named_modules():
            part.training = self.modes.get(name, part.training)
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(self.trained.get(name, parameter.requires_grad))
        with torch.no_grad():
            for name, buffer in module.named_buffers():
                if name in self.buffers:
                    buffer.copy_(self.buffers[name])


def weights_of(module: nn.Module) -> dict[str, Any]:
    """A copy of the module's state on the CPU, what it gives as `get_extra_state` with it."""
    return {
        name: value.detach().cpu().clone() if isinstance(value, Tensor) else copy.deepcopy(value)
        for name, value in module.state_dict().items()
    }


def put_weights(module: nn.Module, weights: Mapping[str, Any]) -> None:
    """Put back what `weights_of` gave; as strictly as a `LightningModule` wants its checkpoints loaded.

    Args:
        module: whose `strict_loading` counts, where it has that.
        weights: copied, since a module may keep what it is given.
    """
    extra = {name: copy.deepcopy(value) for name, value in weights.items() if not isinstance(value, Tensor)}
    module.load_state_dict({**weights, **extra}, strict=bool(getattr(module, "strict_loading", True)))
