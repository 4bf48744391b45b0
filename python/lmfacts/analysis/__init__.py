"""What is said across the depth of a model, computed once for facts, comparisons and reports alike."""
