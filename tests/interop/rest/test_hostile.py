"""Requests to REST that no client should send are refused, and the daemon goes on as it was."""

import http.client
import json
import pathlib
import random
import socket
import sys
import urllib.parse

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lund import Lund  # noqa: E402
from mutate import mutated  # noqa: E402

MIB = 1 << 20
COUNT, SEED = 5000, 20260103
JSON = {"Content-Type": "application/json"}
WORDS = [b"{", b"}", b"[", b'"', b":", b",", b"null", b"\\u0000", b"9" * 30, b"1e9"]

# Each is understood, and refused for what it says: what changes of it must not be done either.
REFUSED = [
    ("POST", "/disks", {"name": "there", "size_bytes": -1, "format": "qcow2"}),
    ("PATCH", "/disks/nothing", {"read_only": True}),
    ("POST", "/disks/nothing/expand", {"size_bytes": 8 * MIB}),
    ("POST", "/targets/there/luns", {"disk": "nothing", "lun": 3}),
    ("PUT", "/targets/nothing/access", {"entries": [{"initiators": {"iqns": ["iqn.2026-01.example:a"]}}]}),
    ("POST", "/users", {"name": "x", "role": "emperor", "password": "correct horse battery"}),
    ("PUT", "/jobs/nothing/settings", {"priority": 3}),
]


@pytest.fixture(scope="module")
def lund():
    with Lund() as running:
        status, job = ask(running, "POST", "/disks", {"name": "there", "size_bytes": MIB})
        assert status == 202
        assert ask(running, "GET", f"/jobs/{job['id']}?wait_seconds=60")[1]["state"] == "Completed"
        assert ask(running, "POST", "/targets", {"name": "there"})[0] == 201
        yield running


def address(lund):
    return urllib.parse.urlsplit(lund.server)


def send(connection, method, path, body, headers=JSON):
    connection.request(method, f"/api/v1{path}", body, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def ask(lund, method, path, body=None):
    connection = http.client.HTTPConnection(address(lund).netloc, timeout=90)
    status, text = send(connection, method, path, None if body is None else json.dumps(body))
    connection.close()
    return status, json.loads(text) if text else None


def state(lund):
    """Everything that is configured."""
    there = {name: ask(lund, "GET", f"/{name}")[1] for name in ("configuration", "users", "tokens", "snapshots")}
    there["jobs"] = [job["id"] for job in ask(lund, "GET", "/jobs")[1]]
    return there


@pytest.fixture(autouse=True)
def goes_on(lund):
    before = state(lund)
    yield
    assert lund.process.poll() is None
    assert state(lund) == before


def resident(lund):
    text = pathlib.Path(f"/proc/{lund.process.pid}/status").read_text(encoding="ascii")
    [line] = [line for line in text.splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) // 1024


@pytest.mark.parametrize("body", [
    "", "hello", "{", "[]", "null", "{}" * 2, '{"name": "\ud800"}'.encode("utf-8", "surrogatepass"), b"\xff\xfe{\0}\0",
    "[" * 100_000, '{"name":' * 100_000, '{"name": "x", "size_bytes": ' + "9" * 400 + "}",
    '{"name": "x", "size_bytes": 1048576, "colour": "red"}', '{"name": "x", "name": "y", "size_bytes": 1048576}',
    '{"name": "' + "x" * 500_000 + '", "size_bytes": 1048576}',
])
def test_what_is_no_request_is_refused(lund, body):
    connection = http.client.HTTPConnection(address(lund).netloc, timeout=60)
    status, text = send(connection, "POST", "/disks", body)
    assert 400 <= status < 500, (status, text)
    assert json.loads(text)["status"] == status
    connection.close()


def test_a_hundred_mebibytes_are_not_taken_in(lund):
    """Neither announced nor in pieces, nor held in memory."""
    before = resident(lund)
    for length in (f"Content-Length: {100 << 20}", "Transfer-Encoding: chunked"):
        with socket.create_connection((address(lund).hostname, address(lund).port), timeout=60) as plain:
            plain.sendall(f"POST /api/v1/disks HTTP/1.1\r\nHost: {address(lund).netloc}\r\n"
                          f"Content-Type: application/json\r\n{length}\r\n\r\n".encode())
            sent, piece = 0, b" " * MIB
            try:
                while sent < 100 << 20:
                    plain.sendall(b"100000\r\n" + piece + b"\r\n" if "chunked" in length else piece)
                    sent += MIB
            except (ConnectionError, TimeoutError):
                pass
            assert sent < 100 << 20, "all of it was taken in"
    assert resident(lund) < before + 32


def test_a_body_that_does_not_come_is_not_waited_for(lund):
    with socket.create_connection((address(lund).hostname, address(lund).port), timeout=30) as slow:
        slow.sendall(f"POST /api/v1/disks HTTP/1.1\r\nHost: {address(lund).netloc}\r\n"
                     "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode())
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_thousands_of_mutated_requests_change_nothing(lund):
    random_, answers = random.Random(SEED), {}
    connection = http.client.HTTPConnection(address(lund).netloc, timeout=60)
    for method, path, body in REFUSED:
        status, text = send(connection, method, path, json.dumps(body))
        assert 400 <= status < 500, (method, path, status, text)
    for number in range(COUNT):
        method, path, body = random_.choice(REFUSED)
        body = mutated(random_, json.dumps(body), WORDS)
        status, text = send(connection, method, path, body)
        assert 400 <= status < 500, (number, method, path, body, status, text)
        answers[status] = answers.get(status, 0) + 1
    assert answers[400] > COUNT // 4 and answers.get(404, 0) > 0, answers
    connection.close()
