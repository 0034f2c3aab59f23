"""A reader of foreign torch files that runs no code."""
