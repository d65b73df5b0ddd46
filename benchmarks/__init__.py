"""How long mvgauss takes beside other ways to the same answer: ``python -m benchmarks``.

`rows` has the computations, `peers` the formulas of others, `measure` and `process` take times, `machine` its
limits, `agreement` says how far apart answers may be, `report` writes the page.
"""
