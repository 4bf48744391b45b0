"""A run, its facts and comparisons as something to look at: on a terminal, as a page, as JSON."""
