"""Thousands of requests that are almost right: each is answered, none of them changes anything."""

import http.client
import random
import socket
import urllib.parse

import pytest

from client import MIB, NAMESPACE
from mutate import mutated
from test_hostile import HEADERS, PLACE

COUNT, SEED = 5000, 20260101
INITIATOR = "iqn.2026-01.example:mutation"
WORDS = [b"<", b">", b"&", b"&#0;", b"&#x10ffff;", b"]]>", b"<![CDATA[", b"<!--", b"\"", b"<?x ?>", b"\0", b"\xff",
         b"<VALUE.NULL/>", b"<VALUE></VALUE>", b"<VALUE.ARRAY>", b"99999999999999", b"<CLASSNAME NAME='CIM_Job'/>",
         b" xmlns='x'", "ä\u2028".encode()]


def message(call):
    return ('<?xml version="1.0" encoding="utf-8"?><CIM CIMVERSION="2.0" DTDVERSION="2.0">'
            f'<MESSAGE ID="1" PROTOCOLVERSION="1.0"><SIMPLEREQ>{call}</SIMPLEREQ></MESSAGE></CIM>')


def intrinsic(name, *parameters):
    text = "".join(f'<IPARAMVALUE NAME="{n}">{v}</IPARAMVALUE>' for n, v in parameters)
    return name, NAMESPACE, message(
        f'<IMETHODCALL NAME="{name}"><LOCALNAMESPACEPATH>{PLACE}</LOCALNAMESPACEPATH>{text}'
        '</IMETHODCALL>')


def instance(path):
    keys = "".join(f'<KEYBINDING NAME="{n}"><KEYVALUE VALUETYPE="string">{v}</KEYVALUE></KEYBINDING>'
                   for n, v in path.keybindings.items())
    return f'<INSTANCENAME CLASSNAME="{path.classname}">{keys}</INSTANCENAME>'


def method(name, path, *parameters):
    text = "".join(f'<PARAMVALUE NAME="{n}">{v}</PARAMVALUE>' for n, v in parameters)
    local = f'<LOCALNAMESPACEPATH>{PLACE}</LOCALNAMESPACEPATH>{instance(path)}'
    return name, f"{NAMESPACE}:{path.classname}", message(
        f'<METHODCALL NAME="{name}"><LOCALINSTANCEPATH>{local}</LOCALINSTANCEPATH>{text}'
        '</METHODCALL>')


def reference(path):
    local = f'<LOCALNAMESPACEPATH>{PLACE}</LOCALNAMESPACEPATH>{instance(path)}'
    return f"<VALUE.REFERENCE><LOCALINSTANCEPATH>{local}</LOCALINSTANCEPATH></VALUE.REFERENCE>"


@pytest.fixture
def corpus(client):
    """Requests that are right, and whose effects, were they carried out, would be seen."""
    volume = client.make_disk("untouched", 4 * MIB)
    view = client.expose(LUNames=[volume["Name"]], InitiatorPortIDs=[INITIATOR])
    wbem = client.wbem
    masking = client.masking
    replication = client.only("CIM_ReplicationService")
    names = f'<VALUE.ARRAY><VALUE>{volume["Name"]}</VALUE></VALUE.ARRAY>'
    class_name = ("ClassName", '<CLASSNAME NAME="CIM_ManagedElement"/>')
    return [
        intrinsic("EnumerateInstances", class_name),
        intrinsic("OpenEnumerateInstances", class_name, ("MaxObjectCount", "<VALUE>100000</VALUE>")),
        intrinsic("GetInstance", ("InstanceName", instance(volume.path))),
        intrinsic("Associators", ("ObjectName", instance(view)),
                  ("AssocClass", '<CLASSNAME NAME="CIM_ProtocolControllerForUnit"/>')),
        intrinsic("GetClass", ("ClassName", '<CLASSNAME NAME="CIM_ConcreteJob"/>')),
        # These are refused as they are, too: the disk is in use, the size is odd.
        method("ReturnToStoragePool", client.service, ("TheElement", reference(volume.path))),
        method("CreateOrModifyElementFromStoragePool", client.service,
               ("TheElement", reference(volume.path)), ("Size", "<VALUE>1000</VALUE>")),
        method("ExposePaths", masking, ("LUNames", names), ("ProtocolControllers",
               f"<VALUE.REFARRAY>{reference(view)}</VALUE.REFARRAY>")),
        method("CreateElementReplica", replication, ("SyncType", "<VALUE>6</VALUE>"),
               ("SourceElement", reference(volume.path))),
    ], [wbem, volume, view]


def state(lund, wbem):
    """Everything that there is but the jobs, and how much memory and how many files it takes."""
    there = {}
    for name in ("CIM_ManagedElement", "CIM_Dependency", "CIM_Component", "CIM_AuthorizedSubject"):
        for one in wbem.EnumerateInstances(name):
            values = {n: p.value for n, p in one.properties.items()
                      if n not in ("RemainingManagedSpace", "SpaceConsumed", "TotalManagedSpace",
                                "StatisticTime", "TimeLastSampled")}
            there[str(one.path)] = str(sorted(values.items(), key=str))
    return there


def resident(lund):
    with open(f"/proc/{lund.process.pid}/status", encoding="ascii") as status:
        [line] = [line for line in status if line.startswith("VmRSS")]
    return int(line.split()[1]) // 1024


def test_mutated_requests_leave_everything_as_it_was(lund, corpus):
    good, (wbem, _, _) = corpus
    before, memory = state(lund, wbem), None
    random_ = random.Random(SEED)
    address = urllib.parse.urlsplit(lund.cimom)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    answers = {}
    for count in range(COUNT):
        name, target, body = random_.choice(good)
        body = mutated(random_, body, WORDS)
        headers = {**HEADERS, "CIMMethod": name, "CIMObject": target}
        try:
            connection.request("POST", "/cimom", body, headers)
            answer = connection.getresponse()
            answer.read()
        except (ConnectionError, http.client.HTTPException) as error:
            raise AssertionError(f"request {count} was not answered: {body!r}") from error
        assert answer.status < 500 or answer.status == 501, (count, answer.status, body)
        answers[answer.status] = answers.get(answer.status, 0) + 1
        memory = memory or count == 500 and resident(lund) or memory
    connection.close()
    assert lund.process.poll() is None
    assert state(lund, wbem) == before
    assert answers[400] > COUNT // 2 and answers.get(200, 0) > COUNT // 50, answers
    assert resident(lund) < memory + 64, "it keeps what it was sent"


def test_a_hundred_mebibytes_are_not_taken_in(lund):
    """Neither announced nor in pieces, nor held in memory."""
    address = urllib.parse.urlsplit(lund.cimom)
    head = "".join(f"{n}: {v}\r\n" for n, v in HEADERS.items())
    before = resident(lund)
    for length in (f"Content-Length: {100 << 20}", "Transfer-Encoding: chunked"):
        with socket.create_connection((address.hostname, address.port), timeout=60) as plain:
            plain.sendall(f"POST /cimom HTTP/1.1\r\nHost: {address.netloc}\r\n{head}{length}\r\n\r\n".encode())
            sent = 0
            try:
                while sent < 100 << 20:
                    piece = b"x" * (1 << 20)
                    if "chunked" in length:
                        piece = b"100000\r\n" + piece + b"\r\n"
                    plain.sendall(piece)
                    sent += 1 << 20
            except (ConnectionError, TimeoutError):
                pass
            assert sent < 100 << 20, "all of it was taken in"
    assert resident(lund) < before + 32


def test_a_body_that_does_not_come_is_not_waited_for(lund):
    address = urllib.parse.urlsplit(lund.cimom)
    head = "".join(f"{n}: {v}\r\n" for n, v in HEADERS.items())
    with socket.create_connection((address.hostname, address.port), timeout=30) as slow:
        slow.sendall(f"POST /cimom HTTP/1.1\r\nHost: {address.netloc}\r\n{head}Content-Length: 100\r\n\r\n<".encode())
        assert slow.recv(100).startswith(b"HTTP/1.1 408")
