"""``python -m mvgauss.pictures``: see `mvgauss.pictures._program`."""

import sys

from mvgauss.pictures._program import main

if __name__ == "__main__":
    sys.exit(main())
