"""Weights read straight from where they are, one tensor at a time, without building the model.

`open_weights` takes a folder, a hub id, a file in any of the usual formats, or a model in memory, and gives a
`WeightSource`: the tensors that are stored, what they are called, and their values as NumPy arrays.
"""

from lmfacts.checkpoints.gguf_source import n_gguf_parts
from lmfacts.checkpoints.opening import open_weights
from lmfacts.checkpoints.source import StoredTensor, WeightSource
from lmfacts.stats.float_values import float_values

__all__ = ["StoredTensor", "WeightSource", "float_values", "n_gguf_parts", "open_weights"]
