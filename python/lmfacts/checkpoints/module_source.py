"""Weights of a model that is already in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmfacts.checkpoints.source import Provenance, StoredTensor, WeightSource
from lmfacts.checkpoints.torch_arrays import array_of, dtype_name, tensor_problem
from lmfacts.errors import ModelError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

__all__ = ["ModuleSource"]


class ModuleSource(WeightSource):
    """The parameters of a module. On the CPU they are read in place; from elsewhere they are copied one at a time."""

    format = "module"

    def __init__(self, module: torch.nn.Module) -> None:
        """List the parameters.

        Raises:
            ModelError: there are none, or they have no values yet.
        """
        config: Any = getattr(module, "config", None)
        as_dict = getattr(config, "to_dict", None)
        asked = str(getattr(config, "name_or_path", "") or type(module).__name__)
        provenance = Provenance(asked, getattr(config, "_commit_hash", None), as_dict() if callable(as_dict) else None)
        self._parameters: dict[str, torch.Tensor] = {}
        owners: dict[int, str] = {}
        tied: dict[str, str] = {}
        for name, parameter in module.named_parameters(remove_duplicate=False):
            if parameter.is_meta:
                raise ModelError(f"{asked}: expected parameters with values, but {name} is on the meta device")
            owner = owners.setdefault(id(parameter), name)
            if owner == name:
                self._parameters[name] = parameter.detach()
            else:
                tied[name] = owner
        if not self._parameters:
            raise ModelError(f"{asked}: expected a model, got a {type(module).__name__} without parameters")
        tensors = [
            StoredTensor(name, tuple(each.shape), dtype_name(each), _n_bytes(each), None, "", tensor_problem(each))
            for name, each in self._parameters.items()
        ]
        super().__init__(provenance, tensors, tied)

    def read(self, tensor: StoredTensor) -> NDArray[Any]:
        """The parameter's own memory, if it is on the CPU. Do not write into it."""
        if tensor.problem is not None:
            raise ModelError(f"{self.name}: {tensor.name} cannot be read: {tensor.problem}")
        return array_of(self._parameters[tensor.name])

    def close(self) -> None:
        """Let go of the parameters."""
        self._parameters = {}


def _n_bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
