"""Numbers from histograms, moments and matrices: NumPy and SciPy only, nothing of models, runs or files."""
