"""Envelopes that no client should send are refused, and the daemon goes on."""

import base64
import http.client
import random
import socket
import urllib.parse
import xml.etree.ElementTree as ET

import pytest

from conftest import PASSWORD
from management import MIB, NAMESPACES, Client, Instance, S
from mutate import mutated

COUNT, SEED = 5000, 20260102
WORDS = [b"<", b">", b"/", b"&#0;", b'"', b"xmlns", b":", b"9" * 30]
HEADERS = {"Content-Type": "application/soap+xml;charset=UTF-8",
           "Authorization": "Basic " + base64.b64encode(f"operator:{PASSWORD}".encode()).decode()}


@pytest.fixture(scope="module")
def envelopes(lund):
    """Envelopes as pypsrp sends them, good ones."""
    client, seen = Client(lund.server, "operator", PASSWORD), []
    client.wait(client.create_disk("untouched"))
    send = client.wsman.transport.send

    def listen(message, **more):
        seen.append(message)
        return send(message, **more)

    client.wsman.transport.send = listen
    [volume] = [it for it in client.references("CIM_StorageVolume", optimized=50)
                if client.get(it)["ElementName"] == "untouched"]
    job = client.references("CIM_ConcreteJob", optimized=50)[0]
    client.put(job, "MSISCSITARGET_ConcreteJob", Notify="x")
    client.associated(volume, "CIM_AllocatedFromStoragePool", optimized=5)
    client.invoke(job, "GetError")
    with pytest.raises(Exception):
        # Refused as it is: the size is odd.
        client.invoke(client.only("CIM_StorageConfigurationService"), "CreateOrModifyElementFromStoragePool",
                      ElementName="untouched", ElementType="5", Size=str(MIB), InPool=client.pool())
    client.wsman.transport.send = send
    return [it.decode() for it in seen]


@pytest.fixture
def good(envelopes):
    return envelopes[0]


@pytest.fixture(autouse=True)
def goes_on(lund, client):
    yield
    assert lund.process.poll() is None
    assert client.pool()


def send(lund, body, method="POST", path="/wsman", **headers):
    """Status and body of the answer."""
    address = urllib.parse.urlsplit(lund.server)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    connection.request(method, path, body, {**HEADERS, **headers})
    answer = connection.getresponse()
    found = (answer.status, answer.read())
    connection.close()
    return found


def subcode(answer):
    status, body = answer
    fault = ET.fromstring(body).find(f"{S}Body/{S}Fault")
    assert status >= 400 and fault is not None, answer
    subcode = fault.findtext(f"{S}Code/{S}Subcode/{S}Value") or fault.findtext(f"{S}Code/{S}Value")
    return subcode.split(":")[1]


def test_document_types_and_entities_are_refused(lund, good):
    bomb = ('<!DOCTYPE s [<!ENTITY a "aaaaaaaaaa">'
            + "".join(f'<!ENTITY a{n} "{("&a%s;" % (n - 1 or "")) * 10}">' for n in range(1, 12)) + "]>")
    assert subcode(send(lund, bomb + good.replace("CIM_StorageVolume", "&a11;"))) == "SchemaValidationError"
    outside = '<!DOCTYPE s SYSTEM "file:///etc/hostname">' + good
    assert subcode(send(lund, outside)) == "SchemaValidationError"
    assert subcode(send(lund, good.replace("CIM_StorageVolume", "&x;"))) == "SchemaValidationError"


@pytest.mark.parametrize("body", ["", "hello", "<x/>", "<s:Envelope/>", "<a>" * 100_000, b"\xff\xfe<",
                                  "<a>" + "<b/>" * 120_000 + "</a>"])
def test_what_is_no_envelope_is_refused(lund, body):
    assert subcode(send(lund, body)) in ("SchemaValidationError", "EncodingLimit")


def test_prefixes_cannot_be_multiplied(lund):
    """Each would hold its namespace again."""
    names = "".join(f' xmlns:p{n}="u"' for n in range(31))
    nested = f"<a{names}>" * 60 + "</a>" * 60
    assert subcode(send(lund, nested)) == "SchemaValidationError"
    soap = NAMESPACES["s"]
    wide = f'<s:Envelope xmlns:s="{soap}" xmlns:p="{"u" * 200_000}">' + "<p:b/>" * 40_000 + "</s:Envelope>"
    assert subcode(send(lund, wide)) == "SchemaValidationError"


def test_headers_that_are_wrong_are_refused(lund, good):
    def without(name):
        root = ET.fromstring(good)
        header = root.find(f"{S}Header")
        [header.remove(child) for child in list(header) if child.tag.endswith("}" + name)]
        return ET.tostring(root)

    assert subcode(send(lund, without("Action"))) == "MessageInformationHeaderRequired"
    assert subcode(send(lund, without("MessageID"))) == "MessageInformationHeaderRequired"
    assert subcode(send(lund, without("ResourceURI"))) == "DestinationUnreachable"
    assert send(lund, without("MaxEnvelopeSize"))[0] == 200
    assert send(lund, without("OperationTimeout"))[0] == 200
    assert send(lund, without("ReplyTo"))[0] == 200
    assert subcode(send(lund, good.replace("role/anonymous", "role/none"))) == "UnsupportedFeature"
    assert subcode(send(lund, good.replace(">PT20S<", ">20 seconds<"))) == "InvalidParameter"
    assert subcode(send(lund, good.replace(">PT20S<", ">-PT20S<"))) == "InvalidParameter"
    assert subcode(send(lund, good.replace(">153600<", ">many<"))) == "InvalidMessageInformationHeader"
    unknown = good.replace("</s:Header>", '<x xmlns="u" s:mustUnderstand="true"/></s:Header>')
    assert unknown != good and subcode(send(lund, unknown)) == "MustUnderstand"
    assert send(lund, unknown.replace('="true"/></s:Header>', '="false"/></s:Header>'))[0] == 200


def test_utf_16_is_understood_and_answered(lund, good):
    status, body = send(lund, ("\ufeff" + good).encode("utf-16-le"),
                        **{"Content-Type": "application/soap+xml;charset=UTF-16"})
    assert status == 200 and body.startswith(b"\xff\xfe")
    assert "EnumerateResponse" in body.decode("utf-16")
    assert subcode(send(lund, b"\xff" * 101)) == "EncodingLimit"


def test_other_content_and_methods_are_refused(lund, good):
    for content in ("text/xml", "application/json", "application/soap+xml;charset=latin-1",
                    'multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted"'):
        assert send(lund, good, **{"Content-Type": content})[0] == 415
    assert send(lund, None, method="GET")[0] == 405
    assert send(lund, None, method="DELETE")[0] == 405


def test_long_bodies_are_refused(lund, good):
    try:
        assert subcode(send(lund, good.replace("CIM_StorageVolume", "x" * (100 << 20)))) == "EncodingLimit"
    except (ConnectionResetError, BrokenPipeError):
        # It need not read all of it before it closes.
        pass

    def chunks():
        for _ in range(10):
            yield b"x" * (1 << 20)

    try:
        assert subcode(send(lund, chunks(), **{"Transfer-Encoding": "chunked"})) == "EncodingLimit"
    except (ConnectionResetError, BrokenPipeError):
        pass


def test_a_body_that_does_not_come_is_not_waited_for(lund):
    address = urllib.parse.urlsplit(lund.server)
    head = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    with socket.create_connection((address.hostname, address.port), timeout=30) as slow:
        slow.sendall(f"POST /wsman HTTP/1.1\r\nHost: {address.netloc}\r\n{head}Content-Length: 100\r\n\r\n<".encode())
        assert slow.recv(100).startswith(b"HTTP/1.1 408")


def test_thousands_of_mutated_envelopes_change_nothing(lund, client, envelopes):
    volumes = {it["DeviceID"]: it for it in client.instances("CIM_StorageVolume")}
    random_ = random.Random(SEED)
    address = urllib.parse.urlsplit(lund.server)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    answers = {}
    for number in range(COUNT):
        body = mutated(random_, random_.choice(envelopes), WORDS)
        connection.request("POST", "/wsman", body, HEADERS)
        answer = connection.getresponse()
        answer.read()
        assert answer.status in (200, 400, 500), (number, body)
        answers[answer.status] = answers.get(answer.status, 0) + 1
    assert answers[500] > COUNT // 2, answers
    after = {it["DeviceID"]: it for it in client.instances("CIM_StorageVolume")}
    assert after.keys() == volumes.keys()
    assert all(Instance(it.element) == volumes[key] for key, it in after.items())
