"""Text in, subword ids out: readers, one normal form, tokenizers and the learning of them."""
