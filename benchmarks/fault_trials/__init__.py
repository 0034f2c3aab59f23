"""The trials of ``benchmarks.faults``, a module for each kind of fault."""
