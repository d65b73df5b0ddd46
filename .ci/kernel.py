"""Say which kernels OpenBLAS has taken, and fail if they are not those named.

``python kernel.py`` prints them, ``python kernel.py Haswell`` fails if NumPy's or SciPy's are others.
"""

import sys

import numpy as np
import scipy.linalg
from threadpoolctl import threadpool_info

#: The oldest kernels are one family, and OpenBLAS tells the first name in it.
FAMILY = {"Prescott": {"Prescott", "Katmai"}}

for dtype in (np.float32, np.float64):  # an instruction that the processor lacks ends the process here
    square = np.eye(200, dtype=dtype) + np.ones((200, 200), dtype)
    scipy.linalg.cholesky(square @ square)
found = {str(i.get("architecture")) for i in threadpool_info() if i["internal_api"] == "openblas"}
print(" and ".join(sorted(found)) or "no OpenBLAS")
if len(sys.argv) > 1:
    wanted = sys.argv[1]
    sys.exit(not (found and found <= FAMILY.get(wanted, {wanted})))
