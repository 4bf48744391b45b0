"""Recording: from hooks on a model to native accumulators, and from those to a run."""
