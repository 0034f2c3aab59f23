"""Text to corpora: settings, the reading of sources, the vocabulary."""
