"""Files of the original XLM: checkpoints, vocabularies, binarized data."""
