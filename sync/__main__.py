"""`python -m sync`: the `onecard` command where no entry point is installed."""

import sys

from sync.cli import main

sys.exit(main())
