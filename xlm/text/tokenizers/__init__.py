"""Subword tokenizers of every kind behind one interface, and the learning of them."""
