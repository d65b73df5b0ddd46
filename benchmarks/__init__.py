"""What mvgauss costs beside other ways to the same answer: ``python -m benchmarks``.

`rows` is the table of works, `peers` the formulas of others; `measure` compares answers and takes
times, `memory` takes peaks, `machine` its limits, `cost` what a work needs at least, `report` the
table.
"""
