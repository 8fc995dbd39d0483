"""Every class that a client of such a server may look for is there, and has instances.

The list is that of the design: the classes of Microsoft's provider, and those of the DMTF that
clients of SMI-S use. `pytest -s` prints it as a table.
"""

import json
import pathlib
import shutil
import subprocess

import pywbem
import pytest

import initiator
from client import MIB, NAMESPACE

INITIATOR = "iqn.2026-01.example:classes"
USER, SECRET = "classes", "a secret of CHAP 1"
STORAGE, INTEROP = NAMESPACE, "interop"

MUST = """
MSISCSITARGET_ConcreteJob MSISCSITARGET_AffectedJobElement CIM_OwningJobElement
MSISCSITARGET_StoragePool MSISCSITARGET_HostedStoragePool MSISCSITARGET_AllocatedFromStoragePool
MSISCSITARGET_StorageVolume MSISCSITARGET_StorageConfigurationService
MSISCSITARGET_StorageConfigurationCapabilities MSISCSITARGET_ElementCapabilities
MSISCSITARGET_SystemDevice MSISCSITARGET_SCSIProtocolController
MSISCSITARGET_ProtocolControllerForUnit MSISCSITARGET_ControllerConfigurationService
MSISCSITARGET_ProtocolControllerMaskingCapabilities MSISCSITARGET_ConcreteDependency
MSISCSITARGET_StorageHardwareID MSISCSITARGET_StorageHardwareIDManagementService
MSISCSITARGET_AuthorizedPrivilege MSISCSITARGET_AuthorizedSubject MSISCSITARGET_AuthorizedTarget
MSISCSITARGET_iSCSIProtocolEndpoint MSISCSITARGET_TCPProtocolEndpoint MSFTSMNET_IPProtocolEndpoint
MSISCSITARGET_BindsTo MSISCSITARGET_HostedAccessPoint MSFTSMNET_HostedAccessPoint
MSISCSITARGET_SAPAvailableForElement MSISCSITARGET_iSCSISession MSISCSITARGET_iSCSIConnection
MSISCSITARGET_NetworkPipeComposition MSISCSITARGET_EndpointOfNetworkPipe MSISCSITARGET_HostedService
MSISCSITARGET_ReplicationService MSISCSITARGET_ReplicationServiceCapabilities
MSISCSITARGET_StorageSynchronized MSFTSM_ComputerSystem MSFTSM_ElementConformsToProfileEx
interop:MSFTSM_System interop:MSFTSM_HostedService interop:MSFTSM_HostedAccessPoint
interop:MSFTSM_RegisteredProfile interop:MSFTSM_RegisteredSubProfile
interop:MSFTSM_SubProfileRequiresProfile interop:MSFTSM_ReferencedProfile
interop:MSFTSM_ElementConformsToProfile interop:MSFTSM_ObjectManager interop:MSFTSM_Namespace
interop:MSFTSM_NamespaceInManager interop:CIM_IndicationFilter
interop:CIM_ListenerDestinationCIMXML interop:CIM_IndicationSubscription
"""
SHOULD = """
CIM_MethodResult CIM_AssociatedJobMethodResult MSISCSITARGET_StorageSetting
MSISCSITARGET_StorageCapabilities MSISCSITARGET_ElementSettingData CIM_AssociatedPrivilege
MSFTSMNET_EthernetPort MSISCSITARGET_DeviceSAPImplementation MSFTSMNET_DeviceSAPImplementation
MSFTSMNET_SystemDevice MSISCSITARGET_iSCSIConfigurationService
MSISCSITARGET_iSCSIConfigurationCapabilities MSISCSITARGET_iSCSICapabilities
MSISCSITARGET_iSCSISessionSettings CIM_SharedSecret CIM_CredentialContext
MSFTSM_ElementSoftwareIdentity interop:MSFTSM_SoftwareIdentity
interop:MSFTSM_CommMechanismForManager interop:MSFTSM_WSManCommunicationMechanism
interop:CIM_CIMXMLCommunicationMechanism
interop:CIM_IndicationService interop:CIM_IndicationServiceCapabilities
"""
COULD = """
MSISCSITARGET_StorageSettingsAssociatedToCapabilities MSISCSITARGET_StorageClientSettingData
MSISCSITARGET_StorageReplicationCapabilities CIM_iSCSISessionStatistics
CIM_BlockStorageStatisticalData CIM_BlockStatisticsService CIM_BlockStatisticsCapabilities
CIM_BlockStatisticsManifest CIM_BlockStatisticsManifestCollection
CIM_AssociatedBlockStatisticsManifestCollection
"""
# Indications are told, and are no instances.
TOLD = ["CIM_InstCreation", "CIM_InstModification", "CIM_InstDeletion", "CIM_AlertIndication"]
# A computer without a network port cannot show one.
PORTS = {"MSFTSMNET_EthernetPort", "MSISCSITARGET_DeviceSAPImplementation",
         "MSFTSMNET_DeviceSAPImplementation", "MSFTSMNET_SystemDevice"}


def has_ports():
    """Whether this computer has an Ethernet port with an address of IPv4."""
    for port in pathlib.Path("/sys/class/net").iterdir():
        if (port / "type").read_text().strip() == "1" and (port / "operstate").read_text() == "up\n":
            return True
    return False


@pytest.fixture
def everything(everywhere):
    """A daemon with something of everything; a session is there as well."""
    from client import Client
    client = Client(everywhere.server)
    wbem = client.wbem
    volume = client.make_disk("classes", 4 * MIB)
    value, output = client.call("CIM_ReplicationService", "CreateElementReplica", ElementName="snap",
                                SyncType=pywbem.Uint16(7), SourceElement=volume.path)
    snapshots = value == 4096 and client.wait(output["Job"])["JobState"] == 7
    view = client.expose(LUNames=[volume["Name"]], InitiatorPortIDs=[INITIATOR])
    listener = wbem.CreateInstance(pywbem.CIMInstance(
        "CIM_ListenerDestinationCIMXML", {"Name": "c", "Destination": "http://127.0.0.1:9"}), INTEROP)
    query = wbem.CreateInstance(pywbem.CIMInstance(
        "CIM_IndicationFilter", {"Name": "c", "QueryLanguage": "WQL",
                                 "Query": "SELECT * FROM CIM_AlertIndication"}), INTEROP)
    wbem.CreateInstance(pywbem.CIMInstance(
        "CIM_IndicationSubscription", {"Filter": query, "Handler": listener}), INTEROP)
    portal = everywhere.portal.replace("0.0.0.0", "127.0.0.1")
    with initiator.Session(portal, view["DeviceID"], 0, INITIATOR):
        account = wbem.CreateInstance(pywbem.CIMInstance(
            "CIM_SharedSecret", {"RemoteID": USER, "Secret": SECRET}), STORAGE)
        wbem.CreateInstance(pywbem.CIMInstance(
            "CIM_CredentialContext",
            {"ElementInContext": account, "ElementProvidingContext": view}), STORAGE)
        yield client, snapshots


def instances(client, name):
    namespace = STORAGE
    if ":" in name:
        namespace, name = name.split(":")
    return client.wbem.EnumerateInstances(name, namespace)


def test_no_class_lacks(everything):
    client, snapshots = everything
    lacking = []
    for rank, names in (("must", MUST), ("should", SHOULD), ("could", COULD)):
        for name in names.split():
            found = len(instances(client, name))
            print(f"{rank:6} {name:60} {found}")
            excused = (name in PORTS and not has_ports()
                       or name == "MSISCSITARGET_StorageSynchronized" and not snapshots)
            if not found and not excused:
                lacking.append(name)
    classes = set(client.wbem.EnumerateClassNames(DeepInheritance=True))
    lacking += [name for name in TOLD if name not in classes]
    assert lacking == []


def test_every_class_of_both_namespaces_has_its_required_properties(everything):
    """Also those that clients read without looking whether they are NULL."""
    client, _ = everything
    empty = set()
    for name in client.wbem.EnumerateClassNames(DeepInheritance=True):
        declared = client.wbem.GetClass(name, LocalOnly=False, IncludeQualifiers=True)
        for namespace in (STORAGE, INTEROP):
            for one in client.wbem.EnumerateInstances(name, namespace):
                if one.classname != name:
                    continue
                wanted = {n for n, p in declared.properties.items()
                          if p.qualifiers.get("Required") or p.qualifiers.get("Key")}
                for parent, more in READ.items():
                    if one.classname in subclasses(client, parent):
                        wanted |= set(more)
                empty |= {f"{name}.{n}" for n in wanted if one[n] is None}
    assert empty == set()


# What the clients of the design read: libstoragemgmt, cinder, ViPR, pywbem.
READ = {
    "CIM_ManagedSystemElement": ["ElementName"],
    "CIM_ComputerSystem": ["Name", "ElementName", "OperationalStatus", "Dedicated", "NameFormat",
                           "HealthState", "EnabledState"],
    "CIM_StoragePool": ["InstanceID", "ElementName", "TotalManagedSpace", "RemainingManagedSpace",
                        "Usage", "OperationalStatus", "Primordial", "PoolID", "HealthState"],
    "CIM_StorageVolume": ["ElementName", "DeviceID", "SystemName", "BlockSize", "NumberOfBlocks",
                          "ConsumableBlocks", "Name", "NameFormat", "NameNamespace", "Usage",
                          "OtherIdentifyingInfo", "IdentifyingDescriptions", "OperationalStatus",
                          "HealthState", "ThinlyProvisioned", "DataRedundancy", "Access",
                          "NoSinglePointOfFailure", "IsBasedOnUnderlyingRedundancy", "Primordial"],
    "CIM_ConcreteJob": ["InstanceID", "JobState", "PercentComplete", "ErrorDescription",
                        "OperationalStatus", "DeleteOnCompletion", "ErrorCode", "JobStatus", "Name",
                        "TimeBeforeRemoval", "TimeOfLastStateChange", "TimeSubmitted", "ElapsedTime",
                        "HealthState", "LocalOrUtcTime"],
    "CIM_SCSIProtocolController": ["DeviceID", "ElementName", "SystemName", "Name", "NameFormat",
                                   "OperationalStatus"],
    "CIM_StorageHardwareID": ["StorageID", "IDType", "ElementName"],
    "CIM_iSCSIProtocolEndpoint": ["Name", "Role", "ProtocolIFType", "ConnectionType", "Identifier",
                                  "OperationalStatus"],
    "CIM_TCPProtocolEndpoint": ["PortNumber", "ProtocolIFType"],
    "CIM_IPProtocolEndpoint": ["ProtocolIFType", "Name"],
    "CIM_EthernetPort": ["PermanentAddress", "PortType", "LinkTechnology"],
    "CIM_RegisteredProfile": ["RegisteredName", "RegisteredVersion", "RegisteredOrganization",
                              "AdvertiseTypes", "InstanceID"],
    "CIM_Service": ["SystemName", "Name", "OperationalStatus", "EnabledState", "Started"],
    "CIM_StorageConfigurationCapabilities": [
        "SupportedAsynchronousActions", "SupportedSynchronousActions",
        "SupportedStorageElementTypes", "SupportedStorageElementFeatures"],
    "CIM_ReplicationServiceCapabilities": [
        "SupportedReplicationTypes", "SupportedAsynchronousActions", "SupportedSynchronousActions"],
    "CIM_StorageSynchronized": ["CopyState", "SyncState", "CopyType", "WhenSynced"],
    "CIM_ProtocolControllerForUnit": ["DeviceNumber", "DeviceAccess"],
    "CIM_AllocatedFromStoragePool": ["SpaceConsumed"],
    "CIM_AffectedJobElement": ["ElementEffects"],
    "CIM_SoftwareIdentity": ["VersionString", "IsEntity"],
    "CIM_ObjectManager": ["ElementName", "Description", "SystemName"],
    "CIM_Namespace": ["Name"],
    "CIM_StorageSetting": ["DataRedundancyGoal", "PackageRedundancyGoal", "NoSinglePointOfFailure"],
    "CIM_StorageCapabilities": ["DataRedundancyDefault", "PackageRedundancyDefault", "ElementType"],
}


def subclasses(client, parent):
    if not hasattr(client, "tree"):
        client.tree = {}
    if parent not in client.tree:
        below = client.wbem.EnumerateClassNames(ClassName=parent, DeepInheritance=True)
        client.tree[parent] = {parent, *below}
    return client.tree[parent]


def test_what_is_associated_is_so_from_both_ends(everything):
    """Associators, names and references agree, whichever end they start from."""
    client, _ = everything
    wbem = client.wbem
    for namespace in (STORAGE, INTEROP):
        names = wbem.EnumerateClassNames(namespace, DeepInheritance=True)
        for name in names:
            if "Association" not in wbem.GetClass(name, IncludeQualifiers=True).qualifiers:
                continue
            for link in wbem.EnumerateInstances(name, namespace)[:3]:
                if link.classname != name:
                    continue
                ends = [(n, v.value) for n, v in link.properties.items() if v.type == "reference"]
                for (near, one), (far, other) in (ends, ends[::-1]):
                    found = wbem.AssociatorNames(one, AssocClass=name, Role=near, ResultRole=far)
                    assert any(same(path, other) for path in found), (name, near, one, other)
                    found = wbem.ReferenceNames(one, ResultClass=name, Role=near)
                    assert any(same(path[far], other) for path in found), (name, near)


def same(one, other):
    one, other = one.copy(), other.copy()
    one.host = other.host = None
    return one == other


def test_a_secret_goes_in_and_never_comes_out(everything):
    client, _ = everything
    wbem = client.wbem
    [account] = wbem.EnumerateInstances("CIM_SharedSecret")
    assert account["RemoteID"] == USER and account["Secret"] is None
    [view] = wbem.Associators(account.path, AssocClass="CIM_CredentialContext")
    assert view.classname == "MSISCSITARGET_SCSIProtocolController"
    account["Secret"] = "another secret of CHAP"
    wbem.ModifyInstance(account, PropertyList=["Secret"])

    def refused(code, call, *words):
        with pytest.raises(pywbem.CIMError) as caught:
            call(*words)
        assert caught.value.status_code == code, caught.value

    short = pywbem.CIMInstance("CIM_SharedSecret", {"RemoteID": "short", "Secret": "short"})
    refused(4, wbem.CreateInstance, short, STORAGE)
    again = pywbem.CIMInstance("CIM_SharedSecret", {"RemoteID": USER, "Secret": SECRET})
    refused(11, wbem.CreateInstance, again, STORAGE)
    # It would open the target to everybody.
    refused(1, wbem.DeleteInstance, account.path)


def test_a_target_with_an_account_lets_in_who_knows_its_secret(client, lund):
    volume = client.make_disk("secret", 4 * MIB)
    view = client.expose(LUNames=[volume["Name"]], InitiatorPortIDs=[INITIATOR])
    target = view["DeviceID"]
    assert initiator.write(lund.portal, target, 0, INITIATOR, 0x11)
    account = client.wbem.CreateInstance(pywbem.CIMInstance(
        "CIM_SharedSecret", {"RemoteID": "who", "Secret": SECRET}), STORAGE)
    # Good for nothing yet.
    assert initiator.write(lund.portal, target, 0, INITIATOR, 0x12)
    client.wbem.CreateInstance(pywbem.CIMInstance(
        "CIM_CredentialContext",
        {"ElementInContext": account, "ElementProvidingContext": view}), STORAGE)
    assert not initiator.write(lund.portal, target, 0, INITIATOR, 0x13)
    assert initiator.write(lund.portal, target, 0, INITIATOR, 0x14, user="who", password=SECRET)
    assert initiator.reads(lund.portal, target, 0, INITIATOR, 0x14, user="who", password=SECRET)


def test_settings_are_goals(client):
    wbem = client.wbem
    pool = client.pool
    [capabilities] = wbem.Associators(pool, AssocClass="CIM_ElementCapabilities",
                                      ResultClass="CIM_StorageCapabilities")
    value, output = wbem.InvokeMethod("CreateSetting", capabilities.path,
                                      SettingType=pywbem.Uint16(3))
    assert value == 0
    goal = wbem.GetInstance(output["NewSetting"])
    assert goal["ChangeableType"] == 1 and goal["DataRedundancyGoal"] == 1
    goal["ElementName"] = "gold"
    wbem.ModifyInstance(goal)
    assert wbem.GetInstance(goal.path)["ElementName"] == "gold"

    def create(name, setting, kind):
        return client.call("CIM_StorageConfigurationService", "CreateOrModifyElementFromStoragePool",
                           ElementName=name, ElementType=pywbem.Uint16(kind),
                           Size=pywbem.Uint64(4 * MIB), InPool=pool, Goal=setting)

    value, output = create("gold", goal.path, 5)
    assert value == 4096 and client.wait(output["Job"])["JobState"] == 7
    goal["DataRedundancyMin"] = pywbem.Uint16(2)
    wbem.ModifyInstance(goal, PropertyList=["DataRedundancyMin"])
    assert create("two copies", goal.path, 5)[0] == 1
    wbem.DeleteInstance(goal.path)

    # What a volume is set to, another one can be asked to be.
    full = client.make_disk("full", 4 * MIB, kind=7)
    [setting] = wbem.Associators(full.path, AssocClass="CIM_ElementSettingData")
    value, output = create("full too", setting.path, 2)
    assert value == 4096 and client.wait(output["Job"])["JobState"] == 7
    [volume] = client.volumes(output["Job"])
    assert volume["ThinlyProvisioned"] is False and volume["MSType"] == 2
    assert create("thin and full", setting.path, 5)[0] == 1

    value, output = wbem.InvokeMethod("GetSupportedSizeRange", pool, ElementType=pywbem.Uint16(3))
    assert value == 0 and output["VolumeSizeDivisor"] == 512
    assert 512 == output["MinimumVolumeSize"] < output["MaximumVolumeSize"]
    assert wbem.InvokeMethod("GetSupportedSizes", pool, ElementType=pywbem.Uint16(3))[0] == 2
    assert wbem.InvokeMethod("GetSupportedSizes", pool, ElementType=pywbem.Uint16(4))[0] == 3


def kind(volume):
    """What qemu-img says that its file is."""
    told = subprocess.run(["qemu-img", "info", "--output=json", "--force-share", volume["MSDevicePath"]],
                          check=True, capture_output=True, text=True, timeout=60).stdout
    told = json.loads(told)
    return told["format"], told["virtual-size"]


@pytest.mark.skipif(not shutil.which("qemu-img"), reason="qemu-img is not installed")
def test_a_goal_says_which_format_a_volume_has(client):
    wbem, service = client.wbem, "CIM_StorageConfigurationService"
    settings = {it["ElementName"]: it for it in wbem.EnumerateInstances("CIM_StorageSetting")}
    [default] = [link["Dependent"] for link in wbem.EnumerateInstances("CIM_StorageSettingsAssociatedToCapabilities")
                 if link["DefaultSetting"]]
    assert wbem.GetInstance(default)["ImageFormat"] == "raw"

    def make(name, goal, method="CreateOrModifyElementFromStoragePool", on=service, **more):
        value, output = client.call(on, method, ElementName=name, **more, **goal)
        assert value == 4096, (value, output)
        assert client.wait(output["Job"])["JobState"] == 7, client.error(output["Job"])
        [volume] = client.volumes(output["Job"])
        return volume

    def create(name, goal):
        return make(name, {"Goal": goal}, ElementType=pywbem.Uint16(2), Size=pywbem.Uint64(8 * MIB), InPool=client.pool)

    for name, format, seen in (("q", "qcow2", "qcow2"), ("x", "vhdx", "vhdx"), ("v", "vhd", "vpc"), ("r", "raw", "raw")):
        goal = settings["Thin" if format == "raw" else f"Thin, {format}"]
        assert goal["ImageFormat"] == format
        volume = create(name, goal.path)
        assert kind(volume) == (seen, 8 * MIB)
        # What it is, another one can be asked to be.
        [own] = wbem.Associators(volume.path, AssocClass="CIM_ElementSettingData", ResultClass="CIM_StorageSetting")
        assert own["InstanceID"] == goal["InstanceID"]
        client.wait(client.give_back(volume.path))

    # A setting of the client's own, for a volume and for a clone of a raw one.
    [capabilities] = wbem.EnumerateInstanceNames("CIM_StorageCapabilities")
    value, output = wbem.InvokeMethod("CreateSetting", capabilities, SettingType=pywbem.Uint16(3))
    goal = wbem.GetInstance(output["NewSetting"])
    goal["ImageFormat"] = "qcow2"
    wbem.ModifyInstance(goal)
    own, raw = create("own", goal.path), client.make_disk("plain", 4 * MIB)
    copy = make("other format", {"TargetSettingGoal": goal.path}, "CreateElementReplica", "CIM_ReplicationService",
                SyncType=pywbem.Uint16(8), SourceElement=raw.path)
    assert kind(own) == ("qcow2", 8 * MIB) and kind(copy) == ("qcow2", 4 * MIB)
    # A snapshot is what its disk is.
    value, _ = client.call("CIM_ReplicationService", "CreateElementReplica", SyncType=pywbem.Uint16(7),
                           SourceElement=raw.path, TargetSettingGoal=goal.path)
    assert value == 1
    goal["ImageFormat"] = "vmdk"
    wbem.ModifyInstance(goal)
    value, _ = client.call(service, "CreateOrModifyElementFromStoragePool", ElementName="never", Goal=goal.path,
                           ElementType=pywbem.Uint16(2), Size=pywbem.Uint64(MIB), InPool=client.pool)
    assert value == 1
    wbem.DeleteInstance(goal.path)
    for volume in (own, copy, raw):
        client.wait(client.give_back(volume.path))


def test_sessions_are_ended(lund, client):
    volume = client.make_disk("ended", 4 * MIB)
    view = client.expose(LUNames=[volume["Name"]], InitiatorPortIDs=[INITIATOR])
    with initiator.Session(lund.portal, view["DeviceID"], 0, INITIATOR):
        [session] = client.wbem.EnumerateInstances("CIM_iSCSISession")
        [counts] = client.wbem.Associators(session.path, AssocClass="CIM_ElementStatisticalData")
        assert counts["CommandPDUsTransferred"] > 0
        [settings] = client.wbem.Associators(session.path, AssocClass="CIM_ElementSettingData")
        assert settings["MaxDataBurstLength"] >= session["MaxDataBurstLength"]
        # Not to be switched on or off: nothing else has states that a client may ask for.
        assert client.request_state(volume.path, 3) == 1
        assert client.request_state(session.path, 9) == 1
        assert client.request_state(session.path, 3) == 0
        with pytest.raises(pywbem.CIMError) as caught:
            for _ in range(1000):
                if client.wbem.GetInstance(session.path)["TSIH"] != session["TSIH"]:
                    break
        assert caught.value.status_code == pywbem.CIM_ERR_NOT_FOUND


def test_a_volume_tells_what_initiators_did_with_it(lund, client):
    volumes = [client.make_disk(name, 4 * MIB) for name in ("busy", "idle", "hidden")]
    busy, idle, hidden = volumes
    view = client.expose(LUNames=[busy["Name"], idle["Name"]], InitiatorPortIDs=[INITIATOR])

    def counts(volume):
        found = client.wbem.Associators(volume.path, AssocClass="CIM_ElementStatisticalData",
                                        ResultClass="CIM_BlockStorageStatisticalData")
        return found[0] if found else None

    before, others = counts(busy), counts(idle)
    assert (before["ElementType"], before["ElementName"], counts(hidden)) == (8, "busy", None)
    assert initiator.write(lund.portal, view["DeviceID"], 0, INITIATOR, 0x33)
    assert initiator.reads(lund.portal, view["DeviceID"], 0, INITIATOR, 0x33)
    after = counts(busy)
    assert after["WriteIOs"] == before["WriteIOs"] + 1
    assert after["KBytesWritten"] - before["KBytesWritten"] in (65, 66)
    assert after["ReadIOs"] > before["ReadIOs"] and after["KBytesRead"] - before["KBytesRead"] >= 65
    assert after["TotalIOs"] == after["ReadIOs"] + after["WriteIOs"]
    assert counts(idle)["WriteIOs"] == others["WriteIOs"]
    # In bulk, in the order of the manifest of volumes.
    service = "CIM_BlockStatisticsService"
    [collection] = client.wbem.EnumerateInstances("CIM_BlockStatisticsManifestCollection")
    manifests = {it["ElementType"]: it for it in client.wbem.Associators(
        collection.path, AssocClass="CIM_MemberOfCollection", ResultClass="CIM_BlockStatisticsManifest")}
    sequence = manifests[8]["CSVSequence"]
    assert collection["IsDefault"] and set(manifests) == {2, 8}
    assert all(manifests[8][f"Include{name}"] for name in sequence[2:])

    def bulk(**more):
        value, output = client.call(service, "GetStatisticsCollection", **more)
        lines = output.get("Statistics") or []
        return value, [dict(zip(sequence, line.split(","), strict=True)) for line in lines]

    everything, of_volumes = pywbem.Uint16(2), [pywbem.Uint16(8)]
    value, rows = bulk(ElementTypes=of_volumes, StatisticsFormat=everything, ManifestCollection=collection.path)
    assert value == 0 and {row["ElementType"] for row in rows} == {"8"}
    [row] = [row for row in rows if row["InstanceID"] == after["InstanceID"]]
    assert {name: row[name] for name in sequence[3:]} == {name: str(after[name]) for name in sequence[3:]}
    assert pywbem.CIMDateTime(row["StatisticTime"]).datetime >= after["StatisticTime"].datetime
    value, rows = bulk()
    all_of_them = client.wbem.EnumerateInstances("CIM_BlockStorageStatisticalData")
    assert value == 0 and len(rows) == len(all_of_them)
    assert {(row["InstanceID"], row["ElementType"]) for row in rows} == {
        (it["InstanceID"], str(it["ElementType"])) for it in all_of_them}
    assert bulk(ElementTypes=[]) == (0, [])
    assert bulk(ElementTypes=[pywbem.Uint16(10)]) == (4097, [])
    assert bulk(ElementTypes=[pywbem.Uint16(13)]) == (5, [])
    assert bulk(StatisticsFormat=pywbem.Uint16(1)) == (4098, [])
    # Both ways, and in the collection.
    [element] = client.wbem.AssociatorNames(after.path, AssocClass="CIM_ElementStatisticalData")
    assert element["DeviceID"] == busy["DeviceID"]
    [collection] = client.wbem.Associators(after.path, AssocClass="CIM_MemberOfCollection")
    assert after.path in client.wbem.AssociatorNames(collection.path, AssocClass="CIM_MemberOfCollection")
    assert client.call("CIM_ControllerConfigurationService", "DeleteProtocolController",
                       ProtocolController=view)[0] == 0
    for volume in volumes:
        client.wait(client.give_back(volume.path))


def test_ports_are_made_by_the_configuration_alone(client):
    service = "CIM_iSCSIConfigurationService"
    value, output = client.call(service, "CreateiSCSINode", Alias="ports")
    node = output["iSCSINode"]
    three = pywbem.Uint16(3)
    assert client.call(service, "CreateiSCSIProtocolEndpoint", iSCSINode=node, Role=three)[0] == 1
    gone = node.copy()
    gone["DeviceID"] = "iqn.2026-01.example:gone"
    assert client.call(service, "CreateiSCSIProtocolEndpoint", iSCSINode=gone, Role=three)[0] == 4096
    [port] = client.wbem.Associators(node, AssocClass="CIM_SAPAvailableForElement")
    assert client.call(service, "DeleteiSCSIProtocolEndpoint", iSCSIPort=port.path)[0] == 1
