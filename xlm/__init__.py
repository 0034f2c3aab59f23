"""Cross-lingual language-model pretraining: from text to a trained model."""

from xlm._foreign import warn_of_foreign_packages

__version__ = "0.1.0"

warn_of_foreign_packages()
