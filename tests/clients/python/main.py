"""Collects the cases of the suite and runs those whose names contain one of the words given, or all."""

import logging
import sys

import harness
import ops  # noqa: F401  importing registers the cases
import watches  # noqa: F401
import recipes  # noqa: F401
import sessions  # noqa: F401

if __name__ == "__main__":
    logging.getLogger("kazoo").addHandler(logging.NullHandler())
    logging.getLogger("kazoo").propagate = False
    harness.run(sys.argv[1:])
