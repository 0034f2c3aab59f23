"""Models and data of other libraries in and out, and ``load``."""
