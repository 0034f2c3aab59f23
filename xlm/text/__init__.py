"""Text in, subword ids out: readers, one normal form, tokenizers and the learning of them."""

from xlm.text.tokenizers.loading import load_tokenizer
from xlm.text.tokenizers.tokenizer import Tokenizer

__all__ = ["Tokenizer", "load_tokenizer"]
