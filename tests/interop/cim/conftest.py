"""The daemon under test, and pywbem connected to it."""

import pathlib
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from client import Client  # noqa: E402
from lund import Lund  # noqa: E402


@pytest.fixture(scope="module")
def lund():
    """A daemon for the tests of one file."""
    with Lund() as running:
        yield running


@pytest.fixture
def everywhere():
    """A daemon that initiators reach at all addresses, for one test."""
    with Lund("--iscsi-listen", "0.0.0.0:0") as running:
        yield running


@pytest.fixture
def server(lund):
    return lund.server


@pytest.fixture
def client(lund):
    return Client(lund.server)


@pytest.fixture
def own_lund():
    """A daemon that one test may stop, kill and start again."""
    with tempfile.TemporaryDirectory(prefix="lund-cim-") as directory:
        with Lund(data_dir=pathlib.Path(directory) / "state") as running:
            yield running
