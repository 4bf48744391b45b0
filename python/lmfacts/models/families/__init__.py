"""The families of models that are known by name, one a file."""
