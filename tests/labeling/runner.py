"""``leaf label``."""

import argparse
import sys

from leaf_fer.errors import UserError
from leaf_fer.labeling.arguments import add_options
from leaf_fer.labeling.command import main


def parsed(words):
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(list(map(str, words)))


if __name__ == "__main__":
    try:
        sys.exit(main(parsed(sys.argv[1:])))
    except UserError as error:
        sys.exit(f"leaf: error: {error}")
