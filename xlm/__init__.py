"""Cross-lingual language-model pretraining: text to corpora, corpora to batches, batches to a model."""

__version__ = "0.1.0"
