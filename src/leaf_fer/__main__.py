"""``python -m leaf_fer`` is ``leaf``: for launchers that start modules."""

import sys

from leaf_fer.cli import main

sys.exit(main())
