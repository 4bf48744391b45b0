"""Weights read straight from where they are, one tensor at a time, without building the model.

`open_weights` takes a folder, a hub id, a file in any of the usual formats, or a model in memory, and gives a
`WeightSource`: the tensors that are stored, what they are called, and their values as NumPy arrays.
"""

from lmfacts.weight_files.float_values import float_values
from lmfacts.weight_files.gguf_source import n_gguf_parts
from lmfacts.weight_files.opening import open_weights
from lmfacts.weight_files.source import StoredTensor, WeightSource

__all__ = ["StoredTensor", "WeightSource", "float_values", "n_gguf_parts", "open_weights"]
