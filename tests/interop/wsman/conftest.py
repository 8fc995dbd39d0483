"""The daemon under test, and pypsrp's client of WS-Management connected to it."""

import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lund import Lund, binary  # noqa: E402
from management import Client  # noqa: E402

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def lund():
    """A daemon with a viewer and an operator, as pypsrp never comes without a password."""
    with Lund() as running:
        for name in ("operator", "viewer", "administrator"):
            subprocess.run([binary("lunctl"), "--server", running.server, "user", "add", name, "--role", name,
                            "--password-file", "-"], input=PASSWORD, text=True, check=True, timeout=60)
        yield running


@pytest.fixture
def client(lund):
    return Client(lund.server, "operator", PASSWORD)


@pytest.fixture
def viewer(lund):
    return Client(lund.server, "viewer", PASSWORD)
