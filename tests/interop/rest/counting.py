"""Counts what schemathesis sends to each operation, since its own report does not tell; it has this
from SCHEMATHESIS_HOOKS. LUND_REST_COUNTS is the file that the counts go to."""

import atexit
import collections
import json
import os
import pathlib

import schemathesis

COUNTS = collections.Counter()


@schemathesis.hook
def after_call(context, case, response):
    COUNTS[case.operation.label] += 1


@atexit.register
def write():
    pathlib.Path(os.environ["LUND_REST_COUNTS"]).write_text(json.dumps(COUNTS))
