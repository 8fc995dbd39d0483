"""WS-Management with a client that knows nothing of lund: disks are made, read, changed, deleted."""

import urllib.error
import urllib.request
import xml.etree.ElementTree as ET

import pytest
from pypsrp.exceptions import AuthenticationError, WSManFaultError
from pypsrp.wsman import NAMESPACES, OptionSet, SelectorSet

from conftest import PASSWORD
from management import (BINDING, DMTF, MIB, NAMESPACE, SELECTORS, S, VENDOR, WMI, WQL, WSA, WSEN, WSMAN_,
                        Client, Instance, Reference)

IDENTITY = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"


def refused(code):
    """`with refused(…)`: a fault with this number of Microsoft's."""
    return pytest.raises(WSManFaultError, check=lambda fault: fault.code == code)


def identify(server, path, envelope="<i:Identify/>"):
    text = (f'<s:Envelope xmlns:s="{NAMESPACES["s"]}" xmlns:i="{IDENTITY}"><s:Header/><s:Body>{envelope}'
            '</s:Body></s:Envelope>')
    request = urllib.request.Request(f"{server}{path}", text.encode(),
                                     {"Content-Type": "application/soap+xml;charset=UTF-8"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return ET.fromstring(answer.read())


def test_whoever_asks_is_told_the_protocol_and_no_more(lund):
    answer = identify(lund.server, "/wsman-anon/identify")
    [response] = answer.find(f"{S}Body")
    assert {child.tag.split("}")[1] for child in response} == {"ProtocolVersion", "ProductVendor"}
    assert response[0].text == NAMESPACES["wsman"]
    with pytest.raises(urllib.error.HTTPError, check=lambda error: error.code == 400):
        identify(lund.server, "/wsman-anon/identify", "<x/>")
    with pytest.raises(urllib.error.HTTPError, check=lambda error: error.code == 401):
        identify(lund.server, "/wsman")


@pytest.mark.parametrize("prefix", [DMTF, VENDOR, f"{WMI}{NAMESPACE}/"])
def test_a_disk_is_made_found_and_deleted(lund, prefix):
    client = Client(lund.server, "operator", PASSWORD, prefix)
    name = f"made & <found> {len(prefix)}"
    job = client.create_disk(name, 3 * MIB)
    assert job.uri == client.uri("MSISCSITARGET_ConcreteJob")
    ended = client.wait(job)
    assert (ended["JobState"], ended["PercentComplete"], ended["ErrorCode"]) == ("7", "100", "0")
    assert sorted(ended.list("OperationalStatus"), key=int) == ["2", "17"]
    assert ended["TimeSubmitted"].endswith("Z") and ended["TimeBeforeRemoval"].startswith("P")
    value, output = client.invoke(job, "GetError")
    assert value == 0 and "Error" not in output

    [volume] = client.associated(job, "CIM_AffectedJobElement", "CIM_StorageVolume", mode="EnumerateObjectAndEPR")
    made, reference = Instance(volume[0]), Reference.read(volume[1])
    assert made["ElementName"] == name
    assert int(made["BlockSize"]) * int(made["NumberOfBlocks"]) == 3 * MIB
    assert client.get(reference) == made
    # A class above its own will do, too.
    assert client.get(Reference(client.uri("CIM_StorageVolume"), **reference.selectors)) == made

    value, output = client.invoke(client.only("CIM_StorageConfigurationService"), "ReturnToStoragePool",
                                  TheElement=reference)
    assert value == 4096
    assert client.wait(output["Job"])["JobState"] == "7"
    with refused(2150858752):
        client.get(reference)


def test_a_failed_job_tells_why(client):
    pool = client.get(client.pool())
    job = client.create_disk("too large", (int(pool["RemainingManagedSpace"]) // MIB + (1 << 20)) * MIB)
    assert client.wait(job)["JobState"] == "10"
    value, output = client.invoke(job, "GetError")
    error = output["Error"]
    assert value == 0 and error.name == "Error"
    assert (error["MessageID"], error["ProbableCause"], error["CIMStatusCode"]) == ("ISCT-STG-001", "50", "1")
    assert error.list("RecommendedActions")
    value, output = client.invoke(job, "GetErrors")
    assert [it["MessageID"] for it in output.list("Errors")] == ["ISCT-STG-001"]


def test_a_refused_request_carries_the_cim_error(client):
    service = client.only("CIM_StorageConfigurationService")
    client.wait(client.create_disk("taken"))
    seen = []
    send = client.wsman.transport.send

    def listen(*arguments, **more):
        try:
            return send(*arguments, **more)
        except Exception as error:
            seen.append(ET.fromstring(error.response_text))
            raise

    client.wsman.transport.send = listen
    with refused(2150858803) as caught:
        client.invoke(service, "CreateOrModifyElementFromStoragePool", ElementName="taken", ElementType="5",
                      Size=str(MIB))
    assert caught.value.reason
    detail = seen[0].find(f"{S}Body/{S}Fault/{S}Detail")
    [error] = [it for it in detail if it.get(f"{BINDING}IsCIM_Error") == "true"]
    error = Instance(error)
    assert error.name == "CIM_Error" and error["MessageID"] == "ISCT-CFG-002"
    assert error["CIMStatusCode"] == "11" and error["Message"] == caught.value.reason


def test_a_job_is_changed_and_deleted(client):
    job = client.create_disk("for its job")
    client.wait(job)
    changed = client.put(job, "MSISCSITARGET_ConcreteJob", TimeBeforeRemoval="PT2H", Notify="somebody")
    assert changed["Notify"] == "somebody" and changed["TimeBeforeRemoval"] == "PT2H"
    assert client.get(job) == changed
    # The whole instance may come back as it was read.
    [again] = client.wsman.put(job.uri, changed.element, selector_set=client.selected(job))
    assert Instance(again) == changed
    with refused(2150858773):
        client.put(job, "CIM_StorageVolume", Notify="x")
    with refused(2150858773):
        client.put(job, "MSISCSITARGET_ConcreteJob", Colour="red")
    client.delete(job)
    with refused(2150858752):
        client.get(job)
    with refused(2150858752):
        client.delete(job)


def test_a_filter_of_indications_is_made_and_removed(client):
    uri = client.uri("CIM_IndicationFilter")
    filters = Client.references(client, "CIM_IndicationFilter", namespace="interop")
    made = client.create(uri, "interop", Name="made over WS-Management", QueryLanguage="DMTF:CQL",
                         Query="SELECT * FROM CIM_InstModification WHERE SourceInstance ISA CIM_ConcreteJob",
                         SourceNamespaces=[NAMESPACE])
    assert made.selectors["__cimnamespace"] == "interop"
    found = client.get(made)
    assert found["Name"] == "made over WS-Management" and found.list("SourceNamespaces") == [NAMESPACE]
    assert len(Client.references(client, "CIM_IndicationFilter", namespace="interop")) == len(filters) + 1
    with refused(2150858803):
        client.create(uri, "interop", Name="made over WS-Management", QueryLanguage="DMTF:CQL",
                      Query="SELECT * FROM CIM_InstModification WHERE SourceInstance ISA CIM_ConcreteJob",
                      SourceNamespaces=[NAMESPACE])
    client.delete(made)
    assert Client.references(client, "CIM_IndicationFilter", namespace="interop") == filters
    with refused(2150858771):
        client.create(client.uri("MSISCSITARGET_StorageVolume"), NAMESPACE, ElementName="not so")


@pytest.fixture(scope="module")
def several(lund):
    """Five disks whose names tell which they are."""
    client = Client(lund.server, "operator", PASSWORD)
    for job in [client.create_disk(f"several-{n}", n * MIB) for n in range(1, 6)]:
        assert client.wait(job)["JobState"] == "7"


SEVERAL = [f"several-{n}" for n in range(1, 6)]


@pytest.mark.usefixtures("several")
def test_an_enumeration_comes_in_parts(client):
    uri = client.uri("CIM_StorageVolume")
    total = len(client.instances("CIM_StorageVolume", count=1, optimized=None))
    assert total >= 5
    answer = client.open(uri, optimized=2, expires="PT30S")
    assert len(answer.find(f"{WSMAN_}Items")) == 2
    assert answer.find(f"{WSMAN_}EndOfSequence") is None
    assert answer.findtext(f"{WSEN}Expires") == "PT30S"
    context = answer.findtext(f"{WSEN}EnumerationContext")
    assert len(client.pull(uri, context).find(f"{WSEN}Items")) == 1, "one, unless more are asked for"
    last = client.pull(uri, context, 1000)
    assert len(last.find(f"{WSEN}Items")) == total - 3
    assert last.find(f"{WSEN}EndOfSequence") is not None
    with refused(2150858779):
        client.pull(uri, context)
    whole = client.open(uri, optimized=1000)
    assert len(whole.find(f"{WSMAN_}Items")) == total and whole.find(f"{WSMAN_}EndOfSequence") is not None


def test_contexts_are_bounded_and_can_be_released(client):
    uri = client.uri("CIM_ConcreteJob")
    opened = [client.open(uri).findtext(f"{WSEN}EnumerationContext") for _ in range(100)]
    # Whoever opens many loses the oldest of theirs, and is not shut out.
    for context in opened[-8:]:
        client.release(uri, context)
    for context in (opened[0], opened[-1]):
        with refused(2150858779):
            client.release(uri, context)
    assert client.instances("CIM_StoragePool")


@pytest.mark.usefixtures("several")
def test_answers_keep_to_the_size_that_a_client_takes(lund):
    client = Client(lund.server, "operator", PASSWORD, max_envelope_size=10000)
    sizes = []
    send = client.wsman.transport.send

    def listen(*arguments, **more):
        answer = send(*arguments, **more)
        sizes.append(len(answer))
        return answer

    client.wsman.transport.send = listen
    found = client.instances("CIM_StorageVolume", count=1000)
    assert len(found) >= 5 and len(sizes) > 2
    assert max(sizes) <= 10000
    client = Client(lund.server, "operator", PASSWORD, max_envelope_size=100)
    with refused(2150858878):
        client.instances("CIM_StorageVolume")


@pytest.mark.usefixtures("several")
def test_queries(client):
    def names(query, **more):
        return sorted(it["ElementName"] for it in client.instances("*", dialect=WQL, query=query, **more))

    assert names("SELECT * FROM CIM_StorageVolume WHERE ElementName LIKE 'several-%'") == SEVERAL
    assert names("select * from MSISCSITARGET_StorageVolume where ElementName = 'SEVERAL-3'") == SEVERAL[2:3]
    blocks = MIB // 512
    assert names(f"SELECT * FROM CIM_StorageVolume WHERE NumberOfBlocks >= {4 * blocks} AND NOT Primordial = TRUE "
                 "AND ElementName LIKE 'several-_'") == SEVERAL[3:]
    [job] = client.items(client.uri("CIM_ConcreteJob"), dialect=WQL, optimized=100, query="SELECT JobState, InstanceID "
                         "FROM CIM_ConcreteJob WHERE Name LIKE '%several-2%'")
    assert job.tag == f"{WSMAN_}XmlFragment"
    assert {it.tag.split("}")[1] for it in job} == {"JobState", "InstanceID"}
    for bad in ("", "DELETE FROM CIM_Job", "SELECT * FROM CIM_Nothing", "SELECT Colour FROM CIM_Job",
                "SELECT * FROM CIM_Job WHERE Colour = 1", "SELECT * FROM CIM_Job WHERE"):
        with refused(2150858778):
            names(bad)
    with refused(2150858778):
        client.instances("CIM_StoragePool", dialect=WQL, query="SELECT * FROM CIM_ConcreteJob")
    with refused(2150858777):
        client.instances("CIM_StoragePool", dialect="http://example/xpath", query="//x")


@pytest.mark.usefixtures("several")
def test_associations(client):
    [volume] = [it for it in client.items(client.uri("CIM_StorageVolume"), mode="EnumerateObjectAndEPR")
                if Instance(it[0])["ElementName"] == "several-1"]
    reference = Reference.read(volume[1])
    [pool] = client.associated(reference, "CIM_AllocatedFromStoragePool", "CIM_StoragePool", mode="EnumerateEPR")
    assert Reference.read(pool) == client.pool()
    [link] = client.associated(reference, result="CIM_AllocatedFromStoragePool", question="AssociationInstances",
                               mode="EnumerateObjectAndEPR")
    link, own = Instance(link[0]), Reference.read(link[1])
    assert link["Dependent"] == reference and link["Antecedent"] == client.pool()
    # An association's own reference has references in it.
    assert own.selectors["Dependent"] == reference
    path = ",".join(f'{k}="{v}"' for k, v in reference.selectors.items() if k != "__cimnamespace")
    query = (f"ASSOCIATORS OF {{MSISCSITARGET_StorageVolume.{path}}} "
             "WHERE AssocClass = CIM_AllocatedFromStoragePool ResultClass = CIM_StoragePool")
    [same] = client.items(client.uri("*"), dialect=WQL, query=query, mode="EnumerateEPR")
    assert Reference.read(same) == client.pool()


@pytest.mark.usefixtures("several")
def test_selectors_and_classes_narrow_an_enumeration(client):
    [job] = client.references("CIM_ConcreteJob", dialect=WQL,
                              query="SELECT * FROM CIM_ConcreteJob WHERE Name LIKE '%several-4%'")
    chosen = ET.Element(f"{WSMAN_}SelectorSet")
    ET.SubElement(chosen, f"{WSMAN_}Selector", Name="InstanceID").text = job.selectors["InstanceID"]
    [found] = client.references("CIM_ConcreteJob", dialect=SELECTORS, query=chosen)
    assert found == job
    assert client.instances("CIM_StorageVolume", polymorphism="None") == []
    base = client.instances("CIM_StorageVolume", polymorphism="ExcludeSubClassProperties")
    assert {it.name for it in base} == {"CIM_StorageVolume"}
    assert all("MSDevicePath" not in it for it in base)
    own = client.instances("CIM_StorageVolume", polymorphism="IncludeSubClassProperties")
    assert {it.name for it in own} == {"MSISCSITARGET_StorageVolume"} and all("MSDevicePath" in it for it in own)


def test_one_instance_alone_needs_no_selectors(client):
    assert client.get(Reference(client.uri("CIM_ComputerSystem")))["NameFormat"] == "Other"
    with refused(2150858842):
        client.get(Reference(client.uri("CIM_StoragePool")))
    with refused(2150858843):
        client.get(Reference(client.uri("CIM_ComputerSystem"), Colour="red"))


def test_what_is_not_there_is_refused(client):
    with refused(2150858811):
        client.instances("CIM_Nothing")
    with refused(2150858811):
        client.wsman.get("http://example.com/nothing")
    with refused(2150858811):
        client.instances("CIM_StoragePool", namespace="root/nothing")
    with refused(2150858811):
        client.instances("*")
    with refused(2150858771):
        client.invoke(client.pool(), "KillJob")
    with refused(2150858771):
        client.wsman.invoke("http://schemas.xmlsoap.org/ws/2004/08/eventing/Subscribe", client.uri("CIM_Job"), None)
    with refused(2150858810):
        client.invoke(client.only("CIM_StorageConfigurationService"), "CreateOrModifyElementFromStoragePool",
                      ElementName="never", ElementType="5", Size="many")
    with refused(2150858810):
        client.invoke(client.only("CIM_StorageConfigurationService"), "CreateOrModifyElementFromStoragePool",
                      ElementName="never", ElementType="5", Size=str(MIB), Colour="red")
    with refused(2150858886):
        client.items(client.uri("CIM_Job"), mode="Everything")
    options = OptionSet()
    options.add_option("colour", "red", {"MustComply": "true"})
    with refused(2150858833):
        client.wsman.get(client.uri("CIM_ComputerSystem"), option_set=options)
    both = SelectorSet()
    both.add_option("__cimnamespace", "interop")
    with refused(2150858813):
        client.wsman.get(f"{WMI}{NAMESPACE}/CIM_ComputerSystem", selector_set=both)
    assert "never" not in [it["ElementName"] for it in client.instances("CIM_StorageVolume")]


def test_the_size_of_envelopes_is_told(client):
    client.wsman.update_max_payload_size()
    assert client.wsman.max_envelope_size == 500 << 10


def test_a_viewer_reads_and_changes_nothing(lund, client, viewer):
    client.wait(client.create_disk("seen by the viewer"))
    assert "seen by the viewer" in [it["ElementName"] for it in viewer.instances("CIM_StorageVolume")]
    [job] = viewer.references("CIM_ConcreteJob", dialect=WQL,
                              query="SELECT * FROM CIM_ConcreteJob WHERE Name LIKE '%seen by the viewer%'")
    assert viewer.invoke(job, "GetError")[0] == 0
    for refuse in (lambda: viewer.create_disk("not by the viewer"), lambda: viewer.delete(job),
                   lambda: viewer.put(job, "MSISCSITARGET_ConcreteJob", Notify="x"),
                   lambda: viewer.create(viewer.uri("CIM_IndicationFilter"), "interop", Name="x"),
                   lambda: viewer.invoke(job, "KillJob")):
        with refused(5):
            refuse()
    with pytest.raises(AuthenticationError):
        Client(lund.server, "viewer", "wrong").instances("CIM_StoragePool")
    request = urllib.request.Request(f"{lund.server}/api/v1/audit?limit=50")
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, lund.server, "administrator", PASSWORD)
    import base64
    import json
    pair = base64.b64encode(f"administrator:{PASSWORD}".encode()).decode()
    request.add_header("Authorization", f"Basic {pair}")
    with urllib.request.urlopen(request, timeout=60) as answer:
        records = json.loads(answer.read())
    records = records.get("items", records) if isinstance(records, dict) else records
    told = {(it["user"], it["method"], it["outcome"]) for it in records}
    assert ("viewer", "KillJob", "ERROR 2") in told
    assert ("operator", "CreateOrModifyElementFromStoragePool", "4096") in told
