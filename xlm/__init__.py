"""Cross-lingual language-model pretraining: text to corpora, corpora to batches, batches to a model."""

from xlm._foreign import warn_of_foreign_packages

__version__ = "0.1.0"

warn_of_foreign_packages()
