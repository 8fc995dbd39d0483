"""Requests that no client should send are refused, and the daemon goes on."""

import http.client
import socket
import urllib.parse

import pywbem
import pytest

from client import MIB, NAMESPACE

HEADERS = {
    "Content-Type": 'application/xml; charset="utf-8"',
    "CIMOperation": "MethodCall",
    "CIMMethod": "EnumerateInstanceNames",
    "CIMObject": NAMESPACE,
}
PLACE = "".join(f'<NAMESPACE NAME="{part}"/>' for part in NAMESPACE.split("/"))
CALL = (f'<IMETHODCALL NAME="EnumerateInstanceNames"><LOCALNAMESPACEPATH>{PLACE}'
        '</LOCALNAMESPACEPATH><IPARAMVALUE NAME="ClassName"><CLASSNAME NAME="CIM_StoragePool"/>'
        '</IPARAMVALUE></IMETHODCALL>')
GOOD = ('<?xml version="1.0" encoding="utf-8"?><CIM CIMVERSION="2.0" DTDVERSION="2.0">'
        '<MESSAGE ID="1" PROTOCOLVERSION="1.0"><SIMPLEREQ>' + CALL +
        '</SIMPLEREQ></MESSAGE></CIM>')


def send(lund, body, method="POST", **headers):
    """Status, CIMError header and body of the answer."""
    address = urllib.parse.urlsplit(lund.cimom)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    merged = {name: value for name, value in {**HEADERS, **headers}.items() if value is not None}
    connection.request(method, "/cimom", body, merged)
    answer = connection.getresponse()
    found = (answer.status, answer.headers.get("CIMError"), answer.read())
    connection.close()
    return found


@pytest.fixture(autouse=True)
def goes_on(lund, client):
    yield
    assert lund.process.poll() is None
    assert client.pool["InstanceID"]
    assert send(lund, GOOD)[0] == 200


def test_a_document_type_and_entities_are_refused(lund):
    bomb = ('<?xml version="1.0"?><!DOCTYPE CIM [<!ENTITY a "aaaaaaaaaa">'
            + "".join(f'<!ENTITY a{n} "{("&a%s;" % (n - 1 or "")) * 10}">' for n in range(1, 12))
            + "]><CIM>&a11;</CIM>")
    assert send(lund, bomb)[:2] == (400, "request-not-valid")
    outside = '<!DOCTYPE CIM SYSTEM "file:///etc/hostname"><CIM/>'
    assert send(lund, outside)[:2] == (400, "request-not-valid")
    assert send(lund, GOOD.replace("CIM_StoragePool", "&x;"))[0] == 400
    assert send(lund, GOOD.replace(CALL, CALL + "&x;"))[:2] == (400, "request-not-valid")


@pytest.mark.parametrize("body", [
    "", "hello", "<CIM>", GOOD[:-1], GOOD + "<x/>", GOOD.replace("SIMPLEREQ>", "SIMPLE>", 1),
    b"\xff\xfe" + GOOD.encode("utf-16-le"), GOOD.encode() + b"\0",
    GOOD.replace("CIM_StoragePool", "CIM_Storage\x01Pool"),
])
def test_what_is_no_xml_is_refused(lund, body):
    assert send(lund, body)[:2] == (400, "request-not-well-formed")


@pytest.mark.parametrize("body", [
    "<CIM/>", GOOD.replace("SIMPLEREQ", "SIMPLEEXPREQ"), GOOD.replace(CALL, ""),
    GOOD.replace("LOCALNAMESPACEPATH", "NAMESPACEPATH"),
    "<a>" * 100_000, "<CIM>" * 60 + "</CIM>" * 60,
    "<CIM>" + "<a/>" * 200_000 + "</CIM>",
])
def test_xml_that_is_no_request_is_refused(lund, body):
    assert send(lund, body)[:2] == (400, "request-not-valid")


@pytest.mark.parametrize("old, new, error", [
    ('CIMVERSION="2.0"', 'CIMVERSION="3.0"', "unsupported-cim-version"),
    ('DTDVERSION="2.0"', 'DTDVERSION="1.0"', "unsupported-dtd-version"),
    ('PROTOCOLVERSION="1.0"', 'PROTOCOLVERSION="2.0"', "unsupported-protocol-version"),
])
def test_other_versions_are_refused(lund, old, new, error):
    assert send(lund, GOOD.replace(old, new))[:2] == (501, error)


def test_headers_that_do_not_fit_are_refused(lund):
    assert send(lund, GOOD, CIMMethod="GetClass")[:2] == (400, "header-mismatch")
    assert send(lund, GOOD, CIMMethod=None)[:2] == (400, "header-mismatch")
    assert send(lund, GOOD, CIMObject="root/cimv2")[:2] == (400, "header-mismatch")
    assert send(lund, GOOD, CIMOperation=None)[:2] == (400, "unsupported-operation")
    assert send(lund, GOOD, CIMObject=urllib.parse.quote(NAMESPACE, safe=""))[0] == 200
    assert send(lund, GOOD, **{"Content-Type": "application/json"})[0] == 415
    assert send(lund, GOOD, **{"Content-Type": "text/xml; charset=utf-8"})[0] == 200
    assert send(lund, GOOD, **{"Content-Type": "text/xml; charset=latin-1"})[0] == 415


def test_other_http_methods_are_refused(lund):
    assert send(lund, GOOD, method="M-POST")[0] == 501
    assert send(lund, None, method="GET")[0] == 405
    assert send(lund, None, method="DELETE")[0] == 405


def test_ten_mebibytes_are_refused(lund):
    body = GOOD.replace("CIM_StoragePool", "x" * (10 << 20))
    try:
        assert send(lund, body)[0] == 413
    except (ConnectionResetError, BrokenPipeError):
        # It need not read all of it before it closes.
        pass


def test_ten_mebibytes_that_are_not_announced_are_refused(lund):
    def chunks():
        for _ in range(10):
            yield b"x" * (1 << 20)

    try:
        assert send(lund, chunks(), **{"Transfer-Encoding": "chunked"})[0] == 413
    except (ConnectionResetError, BrokenPipeError):
        pass


def test_half_a_request_is_survived(lund):
    address = urllib.parse.urlsplit(lund.cimom)
    for part in (b"POST", b"POST /cimom HTTP/1.1\r\nContent-Length: 100\r\n\r\n<CIM", b"\0" * 100):
        with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
            connection.sendall(part)


def test_several_requests_in_one(lund):
    batch = GOOD.replace(f"<SIMPLEREQ>{CALL}</SIMPLEREQ>",
                         "<MULTIREQ>" + f"<SIMPLEREQ>{CALL}</SIMPLEREQ>" * 3 + "</MULTIREQ>")
    status, _, body = send(lund, batch, CIMBatch="CIMBatch", CIMMethod=None, CIMObject=None)
    assert status == 200
    assert body.count(b"<SIMPLERSP>") == 3 and body.count(b"<MULTIRSP>") == 1
    assert send(lund, batch)[:2] == (400, "header-mismatch")


def test_a_tag_is_never_closed_in_itself(lund):
    """wbemcli does not understand that."""
    body = send(lund, GOOD)[2]
    assert b"INSTANCENAME" in body and b"/>" not in body


def refused(code, call, *arguments, **more):
    with pytest.raises(pywbem.CIMError) as caught:
        call(*arguments, **more)
    assert caught.value.status_code == code, caught.value


def test_operations_on_what_is_not_there(client):
    wbem = client.wbem
    refused(pywbem.CIM_ERR_INVALID_CLASS, wbem.EnumerateInstances, "CIM_Nothing")
    refused(pywbem.CIM_ERR_INVALID_CLASS, wbem.EnumerateInstanceNames, "CIM_Nothing")
    refused(pywbem.CIM_ERR_NOT_FOUND, wbem.GetClass, "CIM_Nothing")
    refused(pywbem.CIM_ERR_INVALID_CLASS, wbem.EnumerateClassNames,
            ClassName="CIM_Nothing")
    refused(pywbem.CIM_ERR_INVALID_NAMESPACE, wbem.EnumerateInstances, "CIM_Job",
            namespace="root/cimv2")
    job = pywbem.CIMInstanceName("MSISCSITARGET_ConcreteJob", {"InstanceID": "MSISCSITARGET:x"})
    refused(pywbem.CIM_ERR_NOT_FOUND, wbem.GetInstance, job)
    refused(pywbem.CIM_ERR_NOT_FOUND, wbem.InvokeMethod, "GetError", job)
    refused(pywbem.CIM_ERR_NOT_FOUND, wbem.DeleteInstance, job)
    refused(pywbem.CIM_ERR_NOT_SUPPORTED, wbem.DeleteInstance, client.pool)
    refused(pywbem.CIM_ERR_NOT_SUPPORTED, wbem.DeleteClass, "CIM_Job")
    refused(pywbem.CIM_ERR_NOT_SUPPORTED, wbem.CreateInstance,
            pywbem.CIMInstance("MSISCSITARGET_ConcreteJob"))
    refused(pywbem.CIM_ERR_NOT_SUPPORTED, wbem.ExecQuery, "WQL", "SELECT * FROM CIM_Job")
    refused(pywbem.CIM_ERR_FILTERED_ENUMERATION_NOT_SUPPORTED, wbem.OpenEnumerateInstances,
            "CIM_Job", FilterQueryLanguage="DMTF:FQL", FilterQuery="x = 1", MaxObjectCount=1)
    refused(pywbem.CIM_ERR_INVALID_OPERATION_TIMEOUT, wbem.OpenEnumerateInstances,
            "CIM_Job", OperationTimeout=100_000, MaxObjectCount=1)


def test_methods_with_wrong_parameters(client):
    call, service, pool = client.wbem.InvokeMethod, client.service, client.pool
    create = "CreateOrModifyElementFromStoragePool"
    good = {"ElementName": "never", "ElementType": pywbem.Uint16(5),
            "Size": pywbem.Uint64(MIB), "InPool": pool}
    refused(pywbem.CIM_ERR_METHOD_NOT_FOUND, call, "NoSuchMethod", service)
    refused(pywbem.CIM_ERR_INVALID_PARAMETER, call, create, service)
    for name in ("ElementName", "ElementType", "Size"):
        parameters = {key: value for key, value in good.items() if key != name}
        refused(pywbem.CIM_ERR_INVALID_PARAMETER, call, create, service, **parameters)
    for name, value in [("Size", "many"), ("Size", pywbem.Uint32(1)), ("ElementName", True),
                        ("InPool", "the pool"), ("InPool", service), ("Colour", "red"),
                        ("ElementType", [pywbem.Uint16(5)])]:
        refused(pywbem.CIM_ERR_INVALID_PARAMETER, call, create, service, **{**good, name: value})
    refused(pywbem.CIM_ERR_INVALID_PARAMETER, call, "ReturnToStoragePool", service)
    refused(pywbem.CIM_ERR_INVALID_PARAMETER, call, "ReturnToStoragePool", service,
            TheElement=pool)
    refused(pywbem.CIM_ERR_INVALID_PARAMETER, call, create, "MSISCSITARGET_StorageConfigurationService",
            **good)
    refused(pywbem.CIM_ERR_INVALID_PARAMETER, call, create, service, **{**good, "ElementName": ""})
    gone = pool.copy()
    gone["InstanceID"] = "MSISCSITARGET:pool:gone"
    refused(pywbem.CIM_ERR_NOT_FOUND, call, create, service, **{**good, "InPool": gone})
    names = [v["ElementName"] for v in client.wbem.EnumerateInstances("CIM_StorageVolume")]
    assert "never" not in names


def test_names_with_markup_arrive_as_they_are(client):
    name = "<a> & \"b\" 'c' ]]> größe \U0001f4be"
    assert client.make_disk(name)["ElementName"] == name
