"""Run the command line as ``python -m gandetect``."""

import sys

from gandetect.cli import main

if __name__ == "__main__":
    sys.exit(main())
