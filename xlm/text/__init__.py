"""Text in, subword ids out: readers, one normal form, tokenizers and the learning of them."""

from xlm.text.tokenizer import Tokenizer, load_tokenizer

__all__ = ["Tokenizer", "load_tokenizer"]
