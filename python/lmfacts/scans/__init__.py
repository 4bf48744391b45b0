"""Scans: what drives a recording over a corpus, or the measuring of a checkpoint, from its start to a saved run."""
