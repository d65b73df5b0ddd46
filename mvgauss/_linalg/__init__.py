"""Stacks of matrices in memory, in double precision; no files, threads or pictures."""
