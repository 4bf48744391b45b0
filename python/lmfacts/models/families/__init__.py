"""The families of models that are known by name, one a file; each file has a `FAMILY`, which `registry` finds."""
