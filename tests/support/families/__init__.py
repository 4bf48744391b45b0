"""The tiny models of each family, one file a family of `lmfacts.models`; `support.tiny` finds their `MODELS`."""
