"""Sources, decisions and targets put together, one function for each step, without Dagster.

Dagster's ops call these functions, and so do the dry run and the benchmarks: what is measured and
what is promised is the same code.
"""
