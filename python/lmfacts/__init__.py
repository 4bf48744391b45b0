"""Stream text through a language model once and see what its inside looks like."""
