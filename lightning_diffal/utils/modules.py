"""What a model holds beside its weights: `state_dict` knows nothing of it, and a round must not inherit it."""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["Unsaved"]


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
