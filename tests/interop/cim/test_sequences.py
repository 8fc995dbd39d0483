"""What SMI-S clients do, call by call: libstoragemgmt, the OpenStack driver for ETERNUS, ViPR."""

import subprocess
import tempfile
import time

import pywbem
import pytest

import initiator
from client import Client, MIB, NAMESPACE
from lund import Lund

NAME = "iqn.2026-01.example:host"


@pytest.fixture(scope="module")
def shared():
    """A daemon whose pool shares blocks between files: XFS on a loop device, which needs root."""
    with tempfile.TemporaryDirectory(prefix="lund-cim-") as directory:
        device, path = f"{directory}/device", f"{directory}/xfs"
        subprocess.run(["mkdir", path], check=True)
        subprocess.run(["truncate", "-s", "512M", device], check=True)
        made = [["mkfs.xfs", "-q", "-m", "reflink=1", device], ["mount", "-o", "loop", device, path]]
        try:
            if any(subprocess.run(words, capture_output=True).returncode for words in made):
                pytest.skip("XFS cannot be mounted here")
        except FileNotFoundError:
            pytest.skip("there is no mkfs.xfs")
        try:
            with Lund(data_dir=f"{path}/state") as running:
                yield running
        finally:
            subprocess.run(["umount", "-l", path], check=True)


class Lsm:
    """The calls of libstoragemgmt's plugin smispy, in its order."""

    def __init__(self, server):
        self.wbem = pywbem.WBEMConnection(server, timeout=60)
        self.client = Client(server)
        self.interop = "interop"

    def connect(self):
        """Profiles, systems, the namespace, the services."""
        profiles = self.wbem.EnumerateInstances(
            "CIM_RegisteredProfile", namespace=self.interop, LocalOnly=False,
            PropertyList=["RegisteredName", "RegisteredVersion", "RegisteredOrganization"])
        versions = {p["RegisteredName"]: [int(n) for n in p["RegisteredVersion"].split(".")]
                    for p in profiles if p["RegisteredOrganization"] == 11}
        for name, least in {"Array": [1, 4], "Masking and Mapping": [1, 4],
                            "iSCSI Target Ports": [1, 1]}.items():
            assert versions[name] >= least
        assert "Group Masking and Mapping" not in versions
        [array] = [p.path for p in profiles if p["RegisteredName"] == "Array"]
        [self.system] = self.wbem.Associators(
            array, AssocClass="CIM_ElementConformsToProfile", ResultClass="CIM_ComputerSystem",
            PropertyList=["Name", "ElementName", "OperationalStatus"])
        assert self.system["OperationalStatus"] == [2]
        [path] = self.wbem.AssociatorNames(
            array, AssocClass="CIM_ElementConformsToProfile", ResultClass="CIM_ComputerSystem")
        assert path.namespace == NAMESPACE
        self.wbem.default_namespace = path.namespace
        self.services = {}
        for name in ("StorageConfiguration", "Replication", "ControllerConfiguration",
                     "StorageHardwareIDManagement"):
            [service] = self.wbem.EnumerateInstances(f"CIM_{name}Service",
                                                     PropertyList=["SystemName"])
            assert service["SystemName"] == self.system["Name"]
            self.services[name] = service.path

    def capabilities(self):
        [storage] = self.assoc(self.services["StorageConfiguration"], "ElementCapabilities",
                               "StorageConfigurationCapabilities", [])
        actions = storage["SupportedAsynchronousActions"] + storage["SupportedSynchronousActions"]
        assert {5, 6, 7} <= set(actions) and {2, 5} <= set(storage["SupportedStorageElementTypes"])
        [replication] = self.assoc(self.services["Replication"], "ElementCapabilities",
                                   "ReplicationServiceCapabilities", [])
        assert {6, 10} <= set(replication["SupportedReplicationTypes"])
        assert 2 in replication["SupportedAsynchronousActions"]

    def assoc(self, path, association, result, properties):
        return self.wbem.Associators(path, AssocClass=f"CIM_{association}",
                                     ResultClass=f"CIM_{result}",
                                     PropertyList=properties or None)

    def pool(self):
        pools = self.assoc(self.system.path, "HostedStoragePool", "StoragePool",
                           ["InstanceID", "ElementName", "TotalManagedSpace",
                            "RemainingManagedSpace", "Usage", "OperationalStatus", "Primordial"])
        [pool] = [p for p in pools if not p["Primordial"]]
        assert 0 < pool["RemainingManagedSpace"] <= pool["TotalManagedSpace"]
        [can] = self.assoc(pool.path, "ElementCapabilities", "StorageConfigurationCapabilities",
                           ["SupportedStorageElementFeatures"])
        assert {3, 12, 13} <= set(can["SupportedStorageElementFeatures"])
        return pool

    def volumes(self):
        volumes = self.assoc(self.pool().path, "AllocatedFromStoragePool", "StorageVolume",
                             ["ElementName", "DeviceID", "SystemName", "BlockSize",
                              "NumberOfBlocks", "Name", "NameFormat", "NameNamespace",
                              "OtherIdentifyingInfo", "IdentifyingDescriptions", "Usage"])
        return {v["ElementName"]: v for v in volumes if v["Usage"] != 3}

    def finish(self, answer):
        """Waits for a job as the plugin does; the one volume that it made, if any."""
        value, output = answer
        assert value == 4096, answer
        deadline = time.monotonic() + 60
        while True:
            jobs = self.wbem.EnumerateInstances(
                "CIM_ConcreteJob", PropertyList=["InstanceID", "JobState", "PercentComplete",
                                                 "ErrorDescription", "OperationalStatus"])
            [job] = [j for j in jobs if j["InstanceID"] == output["Job"]["InstanceID"]]
            if job["JobState"] not in (2, 3, 4, 5):
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert job["JobState"] == 7, job["ErrorDescription"]
        assert set(job["OperationalStatus"]) == {2, 17}
        found = self.assoc(job.path, "AffectedJobElement", "StorageVolume", [])
        assert len(found) <= 1
        # The call that made it.
        [result] = self.assoc(job.path, "AssociatedJobMethodResult", "MethodResult", [])
        assert result["PostCallIndication"]["ReturnValue"] == "4096"
        [free] = [j for j in self.wbem.EnumerateInstances(
            "CIM_ConcreteJob", PropertyList=["InstanceID", "DeleteOnCompletion"])
            if j["InstanceID"] == output["Job"]["InstanceID"]]
        if not free["DeleteOnCompletion"]:
            self.wbem.DeleteInstance(job.path)
        return found[0] if found else None

    def storage(self, method, **parameters):
        return self.wbem.InvokeMethod(method, self.services["StorageConfiguration"], **parameters)

    def create(self, name, size):
        volume = self.finish(self.storage(
            "CreateOrModifyElementFromStoragePool", ElementName=name,
            ElementType=pywbem.Uint16(2), InPool=self.pool().path, Size=pywbem.Uint64(size)))
        [pool] = self.assoc(volume.path, "AllocatedFromStoragePool", "StoragePool", ["InstanceID"])
        assert pool["InstanceID"] == self.pool()["InstanceID"]
        return volume

    def resize(self, volume, size):
        self.finish(self.storage("CreateOrModifyElementFromStoragePool", TheElement=volume.path,
                                 ElementType=pywbem.Uint16(2), Size=pywbem.Uint64(size)))

    def delete(self, volume):
        assert self.wbem.Associators(volume.path, AssocClass="CIM_ProtocolControllerForUnit") == []
        for link in self.wbem.References(volume.path, ResultClass="CIM_StorageSynchronized"):
            raise AssertionError(f"it has a replica: {link.path}")
        self.finish(self.storage("ReturnToStoragePool", TheElement=volume.path))

    def snapshot(self, volume, name, kind):
        assert name not in [v["ElementName"] for v in self.wbem.EnumerateInstances(
            "CIM_StorageVolume", PropertyList=["ElementName"])]
        return self.finish(self.wbem.InvokeMethod(
            "CreateElementReplica", self.services["Replication"], ElementName=name,
            SyncType=pywbem.Uint16(kind), SourceElement=volume.path,
            WaitForCopyState=pywbem.Uint16(4)))

    def synchronize(self, link, operation):
        self.finish(self.wbem.InvokeMethod(
            "ModifyReplicaSynchronization", self.services["Replication"],
            Operation=pywbem.Uint16(operation), Synchronization=link))

    def groups(self):
        return self.assoc(self.services["ControllerConfiguration"], "ConcreteDependency",
                          "SCSIProtocolController", ["DeviceID", "ElementName", "SystemName"])

    def mask(self, method, **parameters):
        return self.wbem.InvokeMethod(method, self.services["ControllerConfiguration"],
                                      **parameters)

    def target_ports(self):
        ports = self.assoc(self.system.path, "HostedAccessPoint", "iSCSIProtocolEndpoint", ["Role"])
        found = []
        for port in [p for p in ports if p["Role"] == 3]:
            for tcp in self.assoc(port.path, "BindsTo", "TCPProtocolEndpoint", ["PortNumber"]):
                for ip in self.assoc(tcp.path, "BindsTo", "IPProtocolEndpoint",
                                     ["IPv4Address", "IPv6Address", "IPv6AddressType"]):
                    [node] = self.assoc(port.path, "SAPAvailableForElement",
                                        "SCSIProtocolController", ["Name", "NameFormat"])
                    assert node["NameFormat"] == 3
                    found.append((node["Name"], ip["IPv4Address"], tcp["PortNumber"]))
        return found


def test_libstoragemgmt(shared):
    lsm = Lsm(shared.server)
    lsm.connect()
    lsm.capabilities()
    volume = lsm.create("lsm", 8 * MIB)
    [own] = [v for v in lsm.volumes().values() if v["DeviceID"] == volume["DeviceID"]]
    assert (own["NameFormat"], own["NameNamespace"], len(own["Name"])) == (9, 2, 32)
    assert own["BlockSize"] * own["NumberOfBlocks"] == 8 * MIB

    # An access group, as another client made it; the initiator is added to it.
    view = lsm.client.expose(LUNames=[own["Name"]])
    [group] = lsm.groups()
    assert group["DeviceID"] == view["DeviceID"]
    portal, target = shared.portal, view["DeviceID"]
    assert initiator.targets(portal, NAME) == {}
    value, output = lsm.wbem.InvokeMethod(
        "CreateStorageHardwareID", lsm.services["StorageHardwareIDManagement"], StorageID=NAME,
        IDType=pywbem.Uint16(5))
    assert value == 0
    value, output = lsm.mask("ExposePaths", InitiatorPortIDs=[NAME], ProtocolControllers=[view])
    assert value == 0 and len(output["ProtocolControllers"]) == 1
    [who] = lsm.assoc(view, "AssociatedPrivilege", "StorageHardwareID", ["StorageID", "IDType"])
    assert (who["StorageID"], who["IDType"]) == (NAME, 5)
    host, _, port = portal.rpartition(":")
    assert lsm.target_ports() == [(target, host, int(port))]
    assert initiator.write(portal, target, 0, NAME, 0x11)

    # A snapshot while it is used, and the way back to it.
    snapshot = lsm.snapshot(volume, "lsm-snap", 7)
    assert (snapshot["ElementName"], snapshot["Usage"]) == ("lsm-snap", 8)
    [link] = lsm.wbem.References(volume.path, ResultClass="CIM_StorageSynchronized")
    assert link["SyncedElement"]["DeviceID"] == snapshot["DeviceID"]
    assert (link["CopyState"], link["SyncType"], link["PercentSynced"]) == (4, 7, 100)
    assert initiator.write(portal, target, 0, NAME, 0x22)
    lsm.synchronize(link.path, 15)
    assert initiator.reads(portal, target, 0, NAME, 0x11)

    # A clone is a disk of its own, with the same data.
    copy = lsm.snapshot(volume, "lsm-clone", 8)
    assert lsm.wbem.References(copy.path, ResultClass="CIM_StorageSynchronized") == []
    assert lsm.mask("ExposePaths", LUNames=[copy["Name"]], ProtocolControllers=[view],
                    DeviceAccesses=[pywbem.Uint16(2)])[0] == 0
    assert initiator.targets(portal, NAME) == {target: [0, 1]}
    assert initiator.reads(portal, target, 1, NAME, 0x11)

    # Larger, and smaller again, while it is used.
    for size in (16 * MIB, 8 * MIB):
        lsm.resize(volume, size)
        now = lsm.wbem.GetInstance(volume.path)
        assert now["BlockSize"] * now["NumberOfBlocks"] == size

    # In use: it is not deleted.
    assert lsm.storage("ReturnToStoragePool", TheElement=volume.path)[0] == 6
    names = [own["Name"], copy["Name"]]
    assert lsm.mask("HidePaths", LUNames=names, ProtocolControllers=[view])[0] == 0
    assert initiator.targets(portal, NAME) == {target: []}
    lsm.synchronize(link.path, 19)
    lsm.delete(volume)
    lsm.delete(copy)
    assert lsm.volumes() == {}
    assert lsm.mask("DeleteProtocolController", ProtocolController=view)[0] == 0


def test_openstack(shared):
    """The driver of cinder: it names ports, and waits for jobs by their state and ErrorCode."""
    client = Client(shared.server)
    wbem = client.wbem

    def invoke(service, method, **parameters):
        [path] = wbem.EnumerateInstanceNames(service)
        value, output = wbem.InvokeMethod(method, path, **parameters)
        if "Job" in output:
            deadline = time.monotonic() + 60
            while True:
                job = wbem.GetInstance(output["Job"], LocalOnly=False)
                if job["JobState"] not in (2, 3, 4):
                    value = job["ErrorCode"]
                    break
                assert time.monotonic() < deadline
                time.sleep(0.05)
        return value, output

    configuration, masking = "CIM_StorageConfigurationService", "CIM_ControllerConfigurationService"
    # The operator has made the ports' node before.
    value, output = invoke("CIM_iSCSIConfigurationService", "CreateiSCSINode", Alias="cinder")
    assert value == 0
    node = output["iSCSINode"]
    value, output = invoke(configuration, "CreateOrModifyElementFromStoragePool",
                           ElementName="cinder", ElementType=pywbem.Uint16(5),
                           InPool=client.pool, Size=pywbem.Uint64(8 * MIB))
    assert value == 0
    [volume] = client.volumes(output["Job"])
    [port] = [p for p in wbem.EnumerateInstances("CIM_iSCSIProtocolEndpoint")
              if p["Name"].startswith(node["DeviceID"])]
    paths = {"LUNames": [volume["Name"]], "InitiatorPortIDs": [NAME],
             "TargetPortIDs": [port["Name"]], "DeviceAccesses": [pywbem.Uint16(2)]}
    assert invoke(masking, "ExposePaths", **paths)[0] == 0
    assert invoke(masking, "ExposePaths", **paths)[0] == 4101
    iqn = port["Name"].split(",")[0]
    [link] = wbem.References(volume.path, ResultClass="CIM_ProtocolControllerForUnit")
    number = int(link["DeviceNumber"], 16)
    assert initiator.write(shared.portal, iqn, number, NAME, 0x33)

    value, output = invoke("CIM_ReplicationService", "CreateElementReplica",
                           ElementName="cinder-snap", SyncType=pywbem.Uint16(7),
                           SourceElement=volume.path)
    assert value == 0
    [sync] = wbem.ReferenceNames(volume.path, ResultClass="CIM_StorageSynchronized")
    assert initiator.write(shared.portal, iqn, number, NAME, 0x44)
    for operation, state in ((15, 8), (19, None)):
        more = {"WaitForCopyState": pywbem.Uint16(state)} if state else {}
        assert invoke("CIM_ReplicationService", "ModifyReplicaSynchronization",
                      Operation=pywbem.Uint16(operation), Synchronization=sync, **more)[0] == 0
        assert initiator.reads(shared.portal, iqn, number, NAME, 0x33)
    assert wbem.ReferenceNames(volume.path, ResultClass="CIM_StorageSynchronized") == []

    assert invoke(masking, "HidePaths", LUNames=[volume["Name"]], ProtocolControllers=[node])[0] == 0
    assert invoke(masking, "HidePaths", LUNames=["0" * 32], ProtocolControllers=[node])[0] == 4097
    assert invoke(configuration, "ReturnToStoragePool", TheElement=volume.path)[0] == 0
    assert wbem.EnumerateInstanceNames("CIM_StorageVolume") == []
    assert invoke(masking, "DeleteProtocolController", ProtocolController=node)[0] == 0


def test_snapshots_become_volumes(shared):
    """Detach, clones of snapshots, snapshots of several volumes, and the older methods."""
    client = Client(shared.server)
    wbem = client.wbem
    one, two = (client.make_disk(f"detach {name}", 8 * MIB) for name in ("one", "two"))
    replication = "CIM_ReplicationService"

    def done(outcome):
        value, output = outcome
        assert value == 4096, (value, output)
        assert client.wait(output["Job"])["JobState"] == 7, client.error(output["Job"])
        return output["Job"]

    def write(view, byte):
        assert initiator.write(shared.portal, view["DeviceID"], 0, NAME, byte)

    view = client.expose(LUNames=[one["Name"]], InitiatorPortIDs=[NAME])
    write(view, 0x21)
    done(client.call(replication, "CreateListReplica", SyncType=pywbem.Uint16(7),
                     ElementNames=["together"], SourceElements=[one.path, two.path]))
    write(view, 0x22)
    snapshots = {}
    for volume in (one, two):
        [sync] = wbem.References(volume.path, ResultClass="CIM_StorageSynchronized")
        snapshots[volume["DeviceID"]] = sync
    times = {sync["WhenSynced"] for sync in snapshots.values()}
    assert len(times) == 1, "of one instant"
    sync = snapshots[one["DeviceID"]]

    # A clone of the snapshot, not of the volume as it is now.
    job = done(client.call(replication, "CreateElementReplica", ElementName="of a snapshot",
                           SyncType=pywbem.Uint16(8), SourceElement=sync["SyncedElement"]))
    [clone] = client.volumes(job)
    at = client.expose(LUNames=[clone["Name"]], InitiatorPortIDs=[NAME])
    assert initiator.reads(shared.portal, at["DeviceID"], 0, NAME, 0x21)

    # Detached, the snapshot is a volume at the same path, and can be exposed.
    before = wbem.GetInstance(sync["SyncedElement"])
    assert before["Usage"] == 8
    done(client.call(replication, "ModifyReplicaSynchronization", Operation=pywbem.Uint16(8),
                     Synchronization=sync.path))
    assert wbem.References(one.path, ResultClass="CIM_StorageSynchronized") == []
    after = wbem.GetInstance(sync["SyncedElement"])
    assert after["Usage"] == 2 and after["NameFormat"] == 9
    of = client.expose(LUNames=[after["Name"]], InitiatorPortIDs=[NAME])
    assert initiator.reads(shared.portal, of["DeviceID"], 0, NAME, 0x21)
    assert initiator.write(shared.portal, of["DeviceID"], 0, NAME, 0x23)
    assert initiator.reads(shared.portal, view["DeviceID"], 0, NAME, 0x22)

    # What older clients call.
    service = "CIM_StorageConfigurationService"
    done(client.call(service, "CreateReplica", ElementName="older", SourceElement=two.path,
                     CopyType=pywbem.Uint16(4)))
    links = wbem.References(two.path, ResultClass="CIM_StorageSynchronized")
    for link in links:
        done(client.call(service, "ModifySynchronization", Operation=pywbem.Uint16(5),
                         Synchronization=link.path))
        done(client.call(service, "ReturnToStoragePool", TheElement=link["SyncedElement"]))
    job = done(client.call(service, "CreateReplica", ElementName="older clone",
                           SourceElement=two.path, CopyType=pywbem.Uint16(5)))
    [copy] = client.volumes(job)
    for made in (view, at, of):
        assert client.call("CIM_ControllerConfigurationService", "DeleteProtocolController",
                           ProtocolController=made)[0] == 0
    for volume in (one, two, clone, after, copy):
        client.wait(client.give_back(volume.path))
    assert wbem.EnumerateInstanceNames("CIM_StorageVolume") == []


def test_vipr(shared):
    """It decides at 100 % by OperationalStatus, and asks for GetErrors then."""
    client = Client(shared.server)

    def outcome(job):
        deadline = time.monotonic() + 60
        while True:
            seen = client.wbem.GetInstance(job, PropertyList=[
                "PercentComplete", "OperationalStatus", "ErrorDescription"])
            if seen["PercentComplete"] == 100:
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        if 2 in seen["OperationalStatus"]:
            return None
        assert 6 in seen["OperationalStatus"]
        value, output = client.wbem.InvokeMethod("GetErrors", job)
        assert value == 0 and output["Errors"][0]["Message"] == seen["ErrorDescription"]
        return output["Errors"][0]["MessageID"]

    assert outcome(client.create("vipr huge", 1 << 62)) == "ISCT-STG-001"
    job = client.create("vipr", 8 * MIB)
    assert outcome(job) is None
    [volume] = client.volumes(job)
    assert outcome(client.give_back(volume.path)) is None
