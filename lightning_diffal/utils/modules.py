"""What a model holds: its weights, copied and put back, and what `state_dict` does not know of."""

from __future__ import annotations

import copy
import sys
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, set_model_state_dict

__all__ = ["Unsaved", "gathered", "holds_parts", "is_split", "put_weights", "shrink_towards", "weights_of"]


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
        self.empty = {name for name, _, _, buffer in _registered_buffers(module) if buffer is None}
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
                    _resize(buffer, self.buffers[name])
                    buffer.copy_(self.buffers[name])
        for name, owner, own_name, _ in _registered_buffers(module):
            if name in self.empty:
                setattr(owner, own_name, None)


def is_split(module: nn.Module) -> bool:
    """Whether no process holds all of the module's parameters: each has its share of them, as a `DTensor`."""
    distributed = sys.modules.get("torch.distributed.tensor")  # nobody has split anything where it was never imported
    if distributed is None:
        return False
    return bool(_shards(module)) or any(isinstance(parameter, distributed.DTensor) for parameter in module.parameters())


def _shards(module: nn.Module) -> list[Any]:
    """The parts that FSDP2 has split; their parameters may be whole for a while after a forward pass."""
    return [part for part in module.modules() if hasattr(part, "reshard") and hasattr(part, "unshard")]


def _split_again(module: nn.Module) -> None:
    for part in _shards(module):
        part.reshard()


def weights_of(module: nn.Module) -> dict[str, Any]:
    """A copy of the module's state on the CPU, what it gives as `get_extra_state` with it.

    Of a module that is split over processes each gets its own parts, as `DTensor`s; nobody holds all of it.
    """
    if is_split(module):
        _split_again(module)
        parts = get_model_state_dict(module, options=StateDictOptions(cpu_offload=True))
        return {
            name: value.clone() if isinstance(value, Tensor) else copy.deepcopy(value) for name, value in parts.items()
        }
    state = module.state_dict()
    weights: OrderedDict[str, Any] = OrderedDict(
        (name, value.detach().cpu().clone() if isinstance(value, Tensor) else copy.deepcopy(value))
        for name, value in state.items()
    )
    return _with_versions(weights, state)


def holds_parts(weights: Mapping[str, Any] | None) -> bool:
    """Whether weights are those of a module that is split over processes, each of which has its own parts."""
    distributed = sys.modules.get("torch.distributed.tensor")
    return distributed is not None and any(isinstance(v, distributed.DTensor) for v in (weights or {}).values())


def gathered(weights: Mapping[str, Any], *, keeps: bool) -> dict[str, Any]:
    """Whole tensors out of parts, one after the other. All processes have to call this.

    Args:
        weights: of `weights_of`.
        keeps: whether this process wants them; the others hold one at a time.
    """
    found: dict[str, Any] = {}
    for name, value in weights.items():
        if hasattr(value, "full_tensor"):
            value = value.to(value.device_mesh.device_type).full_tensor().cpu()
        if keeps:
            found[name] = value
    return found


def put_weights(module: nn.Module, weights: Mapping[str, Any]) -> None:
    """Put back what `weights_of` gave; as strictly as a `LightningModule` wants its checkpoints loaded.

    Args:
        module: whose `strict_loading` counts, where it has that. Buffers that have grown since get their size back.
        weights: copied, since a module may keep what it is given.
    """
    strict = bool(getattr(module, "strict_loading", True))
    if is_split(module):
        _split_again(module)
        whole = not holds_parts(weights)  # then what the first process has, whatever the others do
        options = StateDictOptions(full_state_dict=whole, broadcast_from_rank0=whole, strict=strict)
        copies = {name: value.clone() if isinstance(value, Tensor) else value for name, value in weights.items()}
        set_model_state_dict(module, copies, options=options)
        return
    extra = {name: copy.deepcopy(value) for name, value in weights.items() if not isinstance(value, Tensor)}
    state = _with_versions(OrderedDict({**weights, **extra}), weights, module.state_dict())
    for name, buffer in module.named_buffers():
        if isinstance(weights.get(name), Tensor):
            _resize(buffer, weights[name])
    module.load_state_dict(state, strict=strict)


def _with_versions(weights: OrderedDict[str, Any], *sources: Mapping[str, Any]) -> OrderedDict[str, Any]:
    """Let weights say which version of its format each module wrote, as `state_dict` does.

    Without it modules with a `_version` take them for an old checkpoint, and change or refuse them. The first of
    `sources` that says it is believed.
    """
    versions = next((found for found in (getattr(source, "_metadata", None) for source in sources) if found), None)
    if versions is not None:
        weights._metadata = versions  # type: ignore[attr-defined]
    return weights


def _resize(buffer: Tensor, like: Tensor) -> None:
    """Memory banks and their kin grow while they train."""
    if buffer.shape != like.shape:
        buffer.data = torch.empty_like(like, device=buffer.device)


def _registered_buffers(module: nn.Module) -> Iterator[tuple[str, nn.Module, str, Tensor | None]]:
    """Full name, module, name in it and value of each buffer, those that hold nothing yet among them."""
    for prefix, part in module.named_modules():
        for name, buffer in part._buffers.items():
            yield f"{prefix}.{name}" if prefix else name, part, name, buffer


def shrink_towards(module: nn.Module, weights: Mapping[str, Any], factor: float) -> None:
    """Shrink the parameters by a factor, and add what is left of others: shrink and perturb (Ash & Adams 2020).

    Args:
        module: its parameters are changed in place; buffers stay.
        weights: those that are mixed in, as `weights_of` gave them; parameters that are not among them stay.
        factor: what is left of the module's own, between 0 and 1.
    """
    with torch.no_grad():
        if is_split(module):
            _shrink_parts(module, weights, factor)
            return
        for name, parameter in module.named_parameters():
            if name in weights:
                parameter.mul_(factor).add_(weights[name].to(parameter.device), alpha=1 - factor)


def _shrink_parts(module: nn.Module, weights: Mapping[str, Any], factor: float) -> None:
    """`shrink_towards` for a module that is split: each process changes its own parts."""
    own = weights_of(module)
    other = weights
    if not holds_parts(weights):  # whole ones, of the first process: split as the module is
        put_weights(module, weights)
        other = weights_of(module)
    for name in {name for name, _ in module.named_parameters()} & own.keys() & other.keys():
        mine, theirs = (part.to_local() if hasattr(part, "to_local") else part for part in (own[name], other[name]))
        mine.mul_(factor).add_(theirs, alpha=1 - factor)
    put_weights(module, own)
