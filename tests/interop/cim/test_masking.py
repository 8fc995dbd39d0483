"""Masking: what CIM exposes is what initiators see, and nothing else."""

import urllib.request

import pywbem
import pytest

import initiator
from client import MIB

A, B = "iqn.2026-01.example:a", "iqn.2026-01.example:b"
MASKING = "CIM_ControllerConfigurationService"
HARDWARE = "CIM_StorageHardwareIDManagementService"


@pytest.fixture
def volumes(client):
    """Two disks, which are nowhere exposed afterwards."""
    made = [client.make_disk(name, 4 * MIB) for name in ("one", "two")]
    yield made
    for view in client.wbem.EnumerateInstanceNames("CIM_SCSIProtocolController"):
        # Views of initiators go with their target.
        if "," not in view["DeviceID"]:
            gone = client.call(MASKING, "DeleteProtocolController", ProtocolController=view)
            assert gone[0] == 0
    for volume in made:
        client.wait(client.give_back(volume.path))


def units(client, view):
    links = client.wbem.References(view, ResultClass="CIM_ProtocolControllerForUnit")
    return {link["DeviceNumber"]: link["DeviceAccess"] for link in links}


def ids(client, view):
    """The initiators of a view, on both ways that clients take."""
    wbem = client.wbem
    short = wbem.Associators(view, AssocClass="CIM_AssociatedPrivilege",
                             ResultClass="CIM_StorageHardwareID")
    long = [subject for privilege in wbem.AssociatorNames(view, AssocClass="CIM_AuthorizedTarget",
                                                          ResultClass="CIM_AuthorizedPrivilege")
            for subject in wbem.Associators(privilege, AssocClass="CIM_AuthorizedSubject",
                                            ResultClass="CIM_StorageHardwareID")]
    assert {i["StorageID"] for i in short} == {i["StorageID"] for i in long}
    return {i["StorageID"]: i["IDType"] for i in short}


def test_a_view_is_for_whom_it_is_made(lund, client, volumes):
    one, two = volumes
    view = client.expose(LUNames=[one["Name"]], InitiatorPortIDs=[A])
    target = view["DeviceID"]
    assert initiator.targets(lund.portal, A) == {target: [0]}
    assert initiator.targets(lund.portal, B) == {}
    assert initiator.write(lund.portal, target, 0, A, 0x5a)
    assert not initiator.reads(lund.portal, target, 0, B, 0x5a)
    assert (units(client, view), ids(client, view)) == ({"0": 2}, {A: 5})

    # Somebody else is let in: an output names the view.
    assert client.expose(InitiatorPortIDs=[B], ProtocolControllers=[view]) == view
    assert initiator.reads(lund.portal, target, 0, B, 0x5a)

    # A second disk at a number of the client's choice, read-only.
    client.expose(LUNames=[two["Name"]], DeviceNumbers=["1F"], DeviceAccesses=[pywbem.Uint16(3)],
                  ProtocolControllers=[view])
    assert units(client, view) == {"0": 2, "1F": 3}
    assert not initiator.write(lund.portal, target, 31, A, 1)
    assert initiator.reads(lund.portal, target, 31, A, 0)
    assert initiator.write(lund.portal, target, 0, A, 0x5b)

    hide = {"LUNames": [one["Name"]], "ProtocolControllers": [view]}
    assert client.call(MASKING, "HidePaths", **hide)[0] == 0
    assert initiator.targets(lund.portal, A) == {target: [31]}
    assert client.call(MASKING, "HidePaths", **hide)[0] == 4100
    hide = {"InitiatorPortIDs": [A], "ProtocolControllers": [view]}
    assert client.call(MASKING, "HidePaths", **hide)[0] == 0
    assert initiator.targets(lund.portal, A) == {}
    assert ids(client, view) == {B: 5}


def test_ports_without_a_view_mean_these_initiators_alone(lund, client, volumes):
    one, two = volumes
    view = client.expose(LUNames=[one["Name"]], InitiatorPortIDs=[A])
    [port] = client.wbem.Associators(view, AssocClass="CIM_SAPAvailableForElement",
                                     ResultClass="CIM_iSCSIProtocolEndpoint")
    assert port["Role"] == 3 and port["Name"].split(",")[0] == view["DeviceID"]
    paths = {"LUNames": [two["Name"]], "InitiatorPortIDs": [B], "TargetPortIDs": [port["Name"]]}
    assert client.expose(**paths) == view
    target = view["DeviceID"]
    assert initiator.targets(lund.portal, A) == {target: [0]}
    assert initiator.targets(lund.portal, B) == {target: [1]}
    assert client.call(MASKING, "ExposePaths", **paths)[0] == 4101
    assert client.call(MASKING, "HidePaths", **paths)[0] == 0
    assert initiator.targets(lund.portal, B) == {}
    assert initiator.targets(lund.portal, A) == {target: [0]}
    assert set(units(client, view)) == {"0"}


def test_an_initiator_sees_a_disk_under_a_number_of_its_own(lund, client, volumes):
    one, two = volumes
    view = client.expose(LUNames=[one["Name"]], InitiatorPortIDs=[A])
    [port] = client.wbem.Associators(view, AssocClass="CIM_SAPAvailableForElement",
                                     ResultClass="CIM_iSCSIProtocolEndpoint")
    target, of_b = view["DeviceID"], {"InitiatorPortIDs": [B], "TargetPortIDs": [port["Name"]]}
    client.expose(LUNames=[one["Name"], two["Name"]], DeviceNumbers=["1F", "0"], **of_b)
    assert initiator.targets(lund.portal, A) == {target: [0]}
    assert initiator.targets(lund.portal, B) == {target: [0, 31]}
    # It is the same disk.
    assert initiator.write(lund.portal, target, 0, A, 0x71)
    assert initiator.reads(lund.portal, target, 31, B, 0x71)
    assert initiator.reads(lund.portal, target, 0, B, 0)
    again = {"LUNames": [one["Name"]], **of_b}
    assert client.call(MASKING, "ExposePaths", DeviceNumbers=["1F"], **again)[0] == 4101
    assert client.call(MASKING, "ExposePaths", DeviceNumbers=["2"], **again)[0] == 4102
    assert client.call(MASKING, "HidePaths", **again)[0] == 0
    assert initiator.targets(lund.portal, B) == {target: [0]}
    assert initiator.targets(lund.portal, A) == {target: [0]}


def test_a_view_of_ones_own_shows_the_numbers_that_its_initiator_sees(lund, client, volumes):
    one, two = volumes
    wbem = client.wbem
    view = client.expose(LUNames=[one["Name"]], InitiatorPortIDs=[A])
    ports = [port["Name"] for port in wbem.Associators(
        view, AssocClass="CIM_SAPAvailableForElement", ResultClass="CIM_iSCSIProtocolEndpoint")]
    target, of_b = view["DeviceID"], {"InitiatorPortIDs": [B], "TargetPortIDs": ports[:1]}
    own = client.expose(LUNames=[one["Name"], two["Name"]], DeviceNumbers=["1F", "0"],
                        DeviceAccesses=[pywbem.Uint16(2), pywbem.Uint16(3)], **of_b)
    assert (units(client, own), ids(client, own)) == ({"0": 3, "1F": 2}, {B: 5})
    assert (units(client, view), ids(client, view)) == ({"0": 2}, {A: 5})
    # Both are access groups of one iSCSI node, at its ports.
    groups = wbem.Associators(client.masking, AssocClass="CIM_ConcreteDependency",
                              ResultClass="CIM_SCSIProtocolController")
    assert {(g["DeviceID"], g["Name"]) for g in groups} == {
        (target, target), (own["DeviceID"], target)}
    assert ports == [port["Name"] for port in wbem.Associators(
        own, AssocClass="CIM_SAPAvailableForElement", ResultClass="CIM_iSCSIProtocolEndpoint")]
    numbers = {link["Antecedent"]["DeviceID"]: link["DeviceNumber"] for link in wbem.References(
        one.path, ResultClass="CIM_ProtocolControllerForUnit")}
    assert numbers == {target: "0", own["DeviceID"]: "1F"}

    # What is done to it concerns its initiator alone.
    here = {"ProtocolControllers": [own]}
    assert client.call(MASKING, "ExposePaths", InitiatorPortIDs=[A], **here)[0] == 1
    assert client.call(MASKING, "HidePaths", LUNames=[two["Name"]], **here)[0] == 0
    assert initiator.targets(lund.portal, B) == {target: [31]}
    client.expose(LUNames=[two["Name"]], DeviceNumbers=["2"], **here)
    assert units(client, own) == {"2": 2, "1F": 2}
    assert initiator.targets(lund.portal, B) == {target: [2, 31]}
    both = {"ProtocolController": own, "Device": two.path}
    assert client.call(MASKING, "DetachDevice", **both)[0] == 0
    value, output = client.call(MASKING, "AttachDevice", DeviceNumber="A", **both)
    assert (value, output["DeviceNumber"]) == (0, "A")
    assert initiator.targets(lund.portal, B) == {target: [10, 31]}
    assert client.call("CIM_iSCSIConfigurationService", "DeleteiSCSINode", iSCSINode=own)[0] == 4096
    assert client.call(MASKING, "DeleteProtocolController", ProtocolController=own)[0] == 0
    with pytest.raises(pywbem.CIMError) as caught:
        wbem.GetInstance(own)
    assert caught.value.status_code == pywbem.CIM_ERR_NOT_FOUND
    assert initiator.targets(lund.portal, B) == {}
    assert initiator.targets(lund.portal, A) == {target: [0]}
    assert (units(client, view), ids(client, view)) == ({"0": 2}, {A: 5})


def test_what_is_wrong_has_its_own_return_value_and_changes_nothing(client, volumes):
    one, two = volumes
    view = client.expose(LUNames=[one["Name"]], InitiatorPortIDs=[A])
    before = (units(client, view), ids(client, view))

    def expose(**more):
        return client.call(MASKING, "ExposePaths", **more)[0]

    names, here = [two["Name"]], {"ProtocolControllers": [view]}
    assert expose(LUNames=["6" * 32], **here) == 4097
    assert expose(LUNames=names, InitiatorPortIDs=["no name"], **here) == 4098
    assert expose(LUNames=names, InitiatorPortIDs=[A],
                  TargetPortIDs=["iqn.2026-01.example:x,t,0x0001"]) == 4099
    assert expose(LUNames=names, DeviceAccesses=[pywbem.Uint16(4)], **here) == 4100
    assert expose(LUNames=[one["Name"]], InitiatorPortIDs=[A], **here) == 4101
    assert expose(LUNames=names, DeviceNumbers=["0"], **here) == 4102
    assert expose(LUNames=names, DeviceNumbers=["0", "1"], **here) == 5
    assert expose(LUNames=names, DeviceNumbers=["+1"], **here) == 5
    assert expose() == 5
    assert client.call(MASKING, "HidePaths", LUNames=["6" * 32], **here)[0] == 4097
    assert client.call(MASKING, "HidePaths", InitiatorPortIDs=[B], **here)[0] == 4100
    assert client.call(MASKING, "HidePaths", LUNames=names)[0] == 5
    with pytest.raises(pywbem.CIMError) as caught:
        expose(LUNames=names, ProtocolControllers=[two.path])
    assert caught.value.status_code == pywbem.CIM_ERR_INVALID_PARAMETER
    assert before == (units(client, view), ids(client, view))
    assert len(client.wbem.EnumerateInstanceNames("CIM_SCSIProtocolController")) == 1


def test_a_snapshot_is_exposed_itself(lund, client, volumes):
    one, two = volumes
    wbem = client.wbem
    view = client.expose(LUNames=[one["Name"]], InitiatorPortIDs=[A])
    target = view["DeviceID"]
    assert initiator.write(lund.portal, target, 0, A, 0x11)
    value, output = client.call("CIM_ReplicationService", "CreateElementReplica", ElementName="monday",
                                SyncType=pywbem.Uint16(7), SourceElement=one.path)
    assert value == 4096 and client.wait(output["Job"])["JobState"] == 7
    [snapshot] = client.volumes(output["Job"])
    assert initiator.write(lund.portal, target, 0, A, 0x22)

    paths = {"LUNames": [snapshot["Name"]], "ProtocolControllers": [view]}
    count = len(client.wbem.EnumerateInstanceNames("CIM_ConcreteJob"))
    # All parameters are checked before there is a job.
    assert client.call(MASKING, "ExposePaths", DeviceNumbers=["0"], **paths)[0] == 4102
    assert client.call(MASKING, "HidePaths", **paths)[0] == 4100
    names = {**paths, "LUNames": [snapshot["Name"], two["Name"]]}
    assert client.call(MASKING, "ExposePaths", **names)[0] == 1
    assert len(client.wbem.EnumerateInstanceNames("CIM_ConcreteJob")) == count
    value, output = client.call(MASKING, "ExposePaths", DeviceNumbers=["C"], **paths)
    assert value == 4096 and client.wait(output["Job"])["JobState"] == 7
    [owner] = wbem.AssociatorNames(output["Job"], AssocClass="CIM_OwningJobElement")
    assert owner.classname == client.masking.classname
    assert initiator.targets(lund.portal, A) == {target: [0, 12]}
    assert initiator.reads(lund.portal, target, 12, A, 0x11)
    [link] = wbem.References(snapshot.path, ResultClass="CIM_ProtocolControllerForUnit")
    assert (link["Antecedent"].keybindings, link["DeviceNumber"]) == (view.keybindings, "C")
    assert units(client, view) == {"0": 2, "C": 2}
    assert client.call(MASKING, "ExposePaths", **paths)[0] == 4101
    # What initiators write there is not the snapshot's.
    assert initiator.write(lund.portal, target, 12, A, 0x33)
    lund.restart()
    assert initiator.reads(lund.portal, target, 12, A, 0x33)

    value, output = client.call(MASKING, "HidePaths", **paths)
    assert value == 4096 and client.wait(output["Job"])["JobState"] == 7
    assert initiator.targets(lund.portal, A) == {target: [0]}
    assert client.call(MASKING, "HidePaths", **paths)[0] == 4100
    assert len(wbem.EnumerateInstanceNames("CIM_StorageVolume")) == 3

    # Read-only, in a view that is made; it is as it was.
    value, output = client.call(MASKING, "ExposePaths", LUNames=[snapshot["Name"]], InitiatorPortIDs=[B],
                                DeviceAccesses=[pywbem.Uint16(3)])
    assert value == 4096 and client.wait(output["Job"])["JobState"] == 7
    [made] = wbem.AssociatorNames(output["Job"], AssocClass="CIM_AffectedJobElement",
                                  ResultClass="CIM_SCSIProtocolController")
    assert (units(client, made), ids(client, made)) == ({"0": 3}, {B: 5})
    assert initiator.reads(lund.portal, made["DeviceID"], 0, B, 0x11)
    assert not initiator.write(lund.portal, made["DeviceID"], 0, B, 0x44)
    value, output = client.call(MASKING, "HidePaths", LUNames=[snapshot["Name"]], ProtocolControllers=[made])
    assert value == 4096 and client.wait(output["Job"])["JobState"] == 7

    # Whatever takes the last exposure away, the disk that stood for the snapshot goes with it.
    volumes = lambda: len(wbem.EnumerateInstanceNames("CIM_StorageVolume"))  # noqa: E731
    before = volumes()

    def exposed():
        value, output = client.call(MASKING, "ExposePaths", **paths)
        assert value == 4096 and client.wait(output["Job"])["JobState"] == 7
        [link] = wbem.References(snapshot.path, ResultClass="CIM_ProtocolControllerForUnit")
        assert volumes() == before + 1
        return int(link["DeviceNumber"], 16)

    exposed()
    detach = {"ProtocolController": view, "Device": snapshot.path}
    assert client.call(MASKING, "DetachDevice", **detach)[0] == 0
    client.until(lambda: volumes() == before)
    assert client.call(MASKING, "DetachDevice", **detach)[0] == 4096
    lun = exposed()
    request = urllib.request.Request(f"{lund.server}/api/v1/targets/{target}/luns/{lun}", method="DELETE")
    assert urllib.request.urlopen(request, timeout=60).status == 204
    client.until(lambda: volumes() == before)
    value, output = client.call(MASKING, "ExposePaths", LUNames=[snapshot["Name"]], InitiatorPortIDs=[B])
    assert value == 4096 and client.wait(output["Job"])["JobState"] == 7
    [made] = wbem.AssociatorNames(output["Job"], AssocClass="CIM_AffectedJobElement",
                                  ResultClass="CIM_SCSIProtocolController")
    assert client.call(MASKING, "DeleteProtocolController", ProtocolController=made)[0] == 0
    client.until(lambda: volumes() == before)
    client.wait(client.give_back(snapshot.path))


def test_devices_are_attached_and_detached(lund, client, volumes):
    one, _ = volumes
    view = client.expose(InitiatorPortIDs=[A])
    both = {"ProtocolController": view, "Device": one.path}
    value, output = client.call(MASKING, "AttachDevice", DeviceNumber="A", **both)
    assert (value, output["DeviceNumber"]) == (0, "A")
    assert initiator.targets(lund.portal, A) == {view["DeviceID"]: [10]}
    value, _ = client.call(MASKING, "AttachDevice", DeviceNumber="B", **both)
    assert value == 4097
    assert client.call(MASKING, "DetachDevice", **both)[0] == 0
    assert client.call(MASKING, "DetachDevice", **both)[0] == 4096


def test_initiators_are_known_by_name_and_outlive_a_restart(lund, client):
    def create(**more):
        return client.call(HARDWARE, "CreateStorageHardwareID", **more)

    five = pywbem.Uint16(5)
    value, output = create(ElementName="db", StorageID="iqn.2026-01.example:DB", IDType=five)
    assert value == 0
    made = client.wbem.GetInstance(output["HardwareID"])
    assert (made["StorageID"], made["IDType"], made["ElementName"]) == (
        "iqn.2026-01.example:db", 5, "db")
    assert create(StorageID="iqn.2026-01.example:db", IDType=five)[0] == 4096
    assert create(StorageID="0123456789abcdef", IDType=pywbem.Uint16(2))[0] == 4097
    assert create(StorageID="no name", IDType=five)[0] == 5
    lund.restart()
    assert client.wbem.GetInstance(made.path)["ElementName"] == "db"

    view = client.expose(InitiatorPortIDs=[made["StorageID"]])
    assert client.wbem.AssociatorNames(
        made.path, AssocClass="CIM_AssociatedPrivilege")[0].keybindings == view.keybindings

    def delete():
        return client.call(HARDWARE, "DeleteStorageHardwareID", HardwareID=made.path)[0]

    assert delete() == 4
    assert client.call(MASKING, "DeleteProtocolController", ProtocolController=view)[0] == 0
    assert (delete(), delete()) == (0, 4096)


def test_nodes_are_made_for_nobody_and_go_when_nobody_is_there(lund, client, volumes):
    one, _ = volumes
    service = "CIM_iSCSIConfigurationService"
    value, output = client.call(service, "CreateiSCSINode", Alias="payroll")
    assert value == 0
    node = output["iSCSINode"]
    assert client.call(service, "CreateiSCSINode", Alias="payroll")[0] == 4097
    assert ids(client, node) == {}
    client.expose(LUNames=[one["Name"]], InitiatorPortIDs=[A], ProtocolControllers=[node])
    with initiator.Session(lund.portal, node["DeviceID"], 0, A):
        [session] = client.wbem.EnumerateInstances("CIM_iSCSISession")
        assert (session["EndPointName"], session["SessionType"]) == (A, 3)
        [connection] = client.wbem.Associators(session.path,
                                               AssocClass="CIM_NetworkPipeComposition")
        assert connection["ConnectionID"] is not None
        [port] = client.wbem.Associators(session.path, AssocClass="CIM_EndpointOfNetworkPipe")
        assert port["Name"].startswith(node["DeviceID"])
        assert client.call(service, "DeleteiSCSINode", iSCSINode=node)[0] == 4097
    assert client.call(service, "DeleteiSCSINode", iSCSINode=node)[0] == 0
    assert client.call(service, "DeleteiSCSINode", iSCSINode=node)[0] == 4096
