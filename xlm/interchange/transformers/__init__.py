"""Formats of Hugging Face transformers, read and written without that package."""
