"""Proof by faults: a living world, one fault injected from outside its processes, and the database compared afterwards.

`python -m tests.bench faults` runs all of `tests.faults.catalogue`; a short one of them runs with the tests.
"""
