"""How long a training step takes: the same as ``leaf bench speed``, with its options."""

import sys

from leaf_fer.cli import main

if __name__ == "__main__":
    sys.exit(main(["bench", "speed", *sys.argv[1:]]))
