"""Instances keep to the declarations, and the server to what it declares."""

import pathlib

import pywbem
import pytest

from client import NAMESPACE

MOF = pathlib.Path(__file__).resolve().parents[3] / "mgmt-api" / "mof"
# Superclasses before their subclasses.
FILES = ["lund", "profiles", "masking", "iscsi", "replication", "settings", "network", "security",
         "statistics", "indication_service"]
INTEROP = {"MSFTSM_ObjectManager": 1, "MSFTSM_Namespace": 3, "MSFTSM_RegisteredProfile": 3,
           "MSFTSM_RegisteredSubProfile": 7, "MSFTSM_SoftwareIdentity": 1,
           "MSFTSM_NamespaceInManager": 3, "LUND_CIMXMLCommunicationMechanism": 1,
           "MSFTSM_System": 1, "MSFTSM_HostedService": 2, "MSFTSM_HostedAccessPoint": 2, "MSFTSM_WSManCommunicationMechanism": 1,
           "LUND_IndicationServiceCapabilities": 1}
INITIATOR = "iqn.2026-01.example:model"


@pytest.fixture(scope="module")
def declared():
    """The classes as pywbem's own compiler reads them, with what they inherit."""
    repository = pywbem.MOFWBEMConnection()
    compiler = pywbem.MOFCompiler(repository, search_paths=[], verbose=False)
    for name in FILES:
        compiler.compile_file(str(MOF / f"{name}.mof"), NAMESPACE)
    names = repository.classes[NAMESPACE].keys()
    return {name: repository.GetClass(name, namespace=NAMESPACE, LocalOnly=False,
                                      IncludeQualifiers=True)
            for name in names}


@pytest.fixture
def filled(client):
    """There is something of everything that CIM can make."""
    names = [v["ElementName"] for v in client.wbem.EnumerateInstances("CIM_StorageVolume")]
    if "model" not in names:
        volume = client.make_disk("model")
        client.wait(client.create("model too large", 1 << 62))
        client.expose(LUNames=[volume["Name"]], InitiatorPortIDs=[INITIATOR])
    return client


def is_a(declared, name, ancestor):
    while name:
        if name.lower() == ancestor.lower():
            return True
        name = declared[name].superclass
    return False


def allowed(qualifier, value):
    """Whether ValueMap has the value."""
    for entry in qualifier.value:
        low, dots, high = entry.partition("..")
        if dots and (not low or int(low) <= int(value)) and (not high or int(value) <= int(high)):
            return True
        if not dots and entry == str(value):
            return True
    return False


def check(declared, instance):
    """Every property is declared, has its type, and one of the values that it may have."""
    declaration = declared[instance.classname]
    assert set(instance.properties.keys()) == set(declaration.properties.keys())
    for name, own in instance.properties.items():
        model = declaration.properties[name]
        where = f"{instance.classname}.{name}"
        assert own.type == model.type, where
        assert own.is_array == bool(model.is_array), where
        if own.value is None:
            assert "Key" not in model.qualifiers, where
            assert "Required" not in model.qualifiers, where
            continue
        values = own.value if own.is_array else [own.value]
        assert isinstance(own.value, list) == bool(model.is_array), where
        if "ValueMap" in model.qualifiers:
            for value in values:
                assert allowed(model.qualifiers["ValueMap"], value), f"{where}: {value}"
        if "MaxLen" in model.qualifiers:
            assert all(len(v) <= model.qualifiers["MaxLen"].value for v in values), where
        if own.type == "reference":
            for value in values:
                assert is_a(declared, value.classname, model.reference_class), where
    if instance.path is not None:
        keys = {n for n, p in declaration.properties.items() if "Key" in p.qualifiers}
        assert set(instance.path.keybindings.keys()) == keys
        for key in keys:
            if instance.properties[key].type != "reference":
                assert instance.path[key] == instance[key]


def test_every_class_is_enumerated_and_its_instances_keep_to_the_mof(filled, declared):
    counts = {}
    for name in declared:
        for instance in filled.wbem.EnumerateInstances(name):
            check(declared, instance)
            assert is_a(declared, instance.classname, name)
            counts[instance.classname] = counts.get(instance.classname, 0) + 1
    for leaf in ["MSFTSM_ComputerSystem", "MSISCSITARGET_ConcreteJob",
                 "MSISCSITARGET_StoragePool", "MSISCSITARGET_StorageVolume",
                 "MSISCSITARGET_StorageConfigurationService", "MSISCSITARGET_AffectedJobElement",
                 "MSISCSITARGET_OwningJobElement", "MSISCSITARGET_HostedService",
                 "MSISCSITARGET_HostedStoragePool", "MSISCSITARGET_SystemDevice",
                 "MSISCSITARGET_AllocatedFromStoragePool",
                 "MSISCSITARGET_StorageConfigurationCapabilities",
                 "MSISCSITARGET_ElementCapabilities",
                 "MSISCSITARGET_ControllerConfigurationService",
                 "MSISCSITARGET_ProtocolControllerMaskingCapabilities",
                 "MSISCSITARGET_SCSIProtocolController",
                 "MSISCSITARGET_ProtocolControllerForUnit", "MSISCSITARGET_ConcreteDependency",
                 "MSISCSITARGET_StorageHardwareID",
                 "MSISCSITARGET_StorageHardwareIDManagementService",
                 "MSISCSITARGET_AuthorizedPrivilege", "MSISCSITARGET_AuthorizedSubject",
                 "MSISCSITARGET_AuthorizedTarget", "LUND_AssociatedPrivilege",
                 "MSISCSITARGET_iSCSIProtocolEndpoint", "MSISCSITARGET_TCPProtocolEndpoint",
                 "MSFTSMNET_IPProtocolEndpoint", "MSISCSITARGET_BindsTo",
                 "MSISCSITARGET_HostedAccessPoint", "MSFTSMNET_HostedAccessPoint",
                 "MSISCSITARGET_SAPAvailableForElement", "MSISCSITARGET_iSCSIConfigurationService",
                 "MSISCSITARGET_iSCSIConfigurationCapabilities", "MSISCSITARGET_iSCSICapabilities",
                 "MSISCSITARGET_ReplicationService",
                 "MSISCSITARGET_ReplicationServiceCapabilities", "LUND_MethodResult",
                 "LUND_AssociatedJobMethodResult", "MSFTSM_ElementConformsToProfileEx",
                 "MSFTSM_ElementSoftwareIdentity"]:
        assert counts.get(leaf), leaf


def test_the_error_of_a_job_keeps_to_the_mof(filled, declared):
    failed = [j for j in filled.wbem.EnumerateInstances("CIM_ConcreteJob") if j["JobState"] == 10]
    assert failed
    for job in failed:
        check(declared, filled.error(job.path))


def test_get_class_says_what_the_mof_says(client, declared):
    names = client.wbem.EnumerateClassNames(DeepInheritance=True)
    assert set(names) == set(declared)
    for name in names:
        served = client.wbem.GetClass(name, LocalOnly=False, IncludeQualifiers=True)
        model = declared[name]
        assert served.superclass == model.superclass
        assert set(served.properties) == set(model.properties), name
        assert set(served.methods) == set(model.methods), name
        for own, other in zip_members(served.properties, model.properties):
            assert own.type == other.type and own.reference_class == other.reference_class
            assert qualifiers(own) == qualifiers(other), (name, own.name)
            assert own.value == other.value, (name, own.name)
        for own, other in zip_members(served.methods, model.methods):
            assert own.return_type == other.return_type
            assert qualifiers(own) == qualifiers(other), (name, own.name)
            assert list(own.parameters) == list(other.parameters)
            for mine, theirs in zip_members(own.parameters, other.parameters):
                assert mine.type == theirs.type and bool(mine.is_array) == bool(theirs.is_array)
                assert qualifiers(mine) == qualifiers(theirs), (own.name, mine.name)


def zip_members(served, model):
    return [(served[name], model[name]) for name in model]


def qualifiers(member):
    """Without those of the flavour Restricted, which pywbem's compiler hands on to subclasses."""
    return {name: q.value for name, q in member.qualifiers.items()
            if name not in ("Deprecated", "Override")}


def test_get_class_with_parts(client):
    get = client.wbem.GetClass
    assert list(get("CIM_ConcreteJob", LocalOnly=True).properties) == [
        "InstanceID", "Name", "JobState", "TimeOfLastStateChange", "TimeBeforeRemoval",
        "JobInParameters", "JobOutParameters"]
    bare = get("msiscsitarget_concretejob", LocalOnly=False, IncludeQualifiers=False,
               PropertyList=["jobstate", "PercentComplete"])
    assert set(bare.properties.keys()) == {"JobState", "PercentComplete"}
    assert not bare.qualifiers and not bare.properties["JobState"].qualifiers
    origin = get("CIM_ConcreteJob", LocalOnly=False, IncludeClassOrigin=True)
    assert origin.properties["PercentComplete"].class_origin == "CIM_Job"


def test_qualifiers_are_declared(client):
    names = {q.name for q in client.wbem.EnumerateQualifiers()}
    assert {"Key", "Values", "ValueMap", "EmbeddedInstance", "In", "Out"} <= names
    assert client.wbem.GetQualifier("Key").scopes["PROPERTY"] is True


def test_property_lists_and_inheritance(filled):
    wanted = ["instanceid", "JobState", "ErrorDescription", "ScheduledStartTime"]
    for job in filled.wbem.EnumerateInstances("CIM_Job", PropertyList=wanted):
        assert {n.lower() for n in job.properties} == {n.lower() for n in wanted}
    for job in filled.wbem.EnumerateInstances("CIM_Job", DeepInheritance=False):
        assert "PercentComplete" in job.properties and "JobState" not in job.properties


def test_pull_operations_give_the_same(filled):
    wbem = filled.wbem
    whole = {str(i.path.keybindings) for i in wbem.EnumerateInstances("CIM_ManagedElement")}
    for count in (1, 2, 1000):
        pulled = wbem.IterEnumerateInstances("CIM_ManagedElement", MaxObjectCount=count)
        assert {str(i.path.keybindings) for i in pulled} == whole
        paths = wbem.IterEnumerateInstancePaths("CIM_ManagedElement", MaxObjectCount=count)
        assert {str(p.keybindings) for p in paths} == whole
    part = wbem.OpenEnumerateInstances("CIM_ManagedElement", MaxObjectCount=1)
    assert len(part.instances) == 1 and not part.eos
    with pytest.raises(pywbem.CIMError) as caught:
        wbem.PullInstancePaths(part.context, MaxObjectCount=1)
    assert caught.value.status_code == pywbem.CIM_ERR_INVALID_ENUMERATION_CONTEXT
    wbem.CloseEnumeration(part.context)
    with pytest.raises(pywbem.CIMError) as caught:
        wbem.PullInstancesWithPath(part.context, MaxObjectCount=1)
    assert caught.value.status_code == pywbem.CIM_ERR_INVALID_ENUMERATION_CONTEXT


def test_associations_lead_both_ways(filled):
    wbem = filled.wbem
    [system] = wbem.EnumerateInstanceNames("CIM_ComputerSystem")
    [volume] = [v for v in wbem.EnumerateInstances("CIM_StorageVolume")
                if v["ElementName"] == "model"]
    devices = wbem.Associators(
        system, AssocClass="CIM_SystemDevice", ResultClass="CIM_StorageVolume",
        Role="GroupComponent", ResultRole="PartComponent")
    assert volume["DeviceID"] in [device["DeviceID"] for device in devices]
    assert all(device.path.host for device in devices)
    [above] = wbem.AssociatorNames(volume.path, AssocClass="CIM_SystemDevice")
    assert above.host and above.keybindings == system.keybindings
    assert wbem.AssociatorNames(volume.path, Role="GroupComponent") == []
    assert wbem.AssociatorNames(system, AssocClass="CIM_NoSuchThing") == []
    for link in wbem.ReferenceNames(volume.path):
        assert wbem.GetInstance(link).classname == link.classname


def test_service_and_pool_say_what_they_can(client):
    for path in (client.service, client.pool):
        [found] = client.wbem.Associators(path, AssocClass="CIM_ElementCapabilities",
                                          ResultClass="CIM_StorageConfigurationCapabilities")
        assert set(found["SupportedAsynchronousActions"]) == {5, 6, 7}
        assert {3, 12, 13} <= set(found["SupportedStorageElementFeatures"])
        assert found["SupportedSynchronousActions"] == []


def test_the_server_describes_itself(client):
    server = pywbem.WBEMServer(client.wbem)
    assert server.interop_ns.lower() in ("interop", "root/interop")
    assert NAMESPACE in server.namespaces
    for name, count in INTEROP.items():
        assert len(client.wbem.EnumerateInstances(name, namespace="root/interop")) == count
        assert client.wbem.EnumerateInstances(name) == []
        for path in client.wbem.EnumerateInstanceNames(name, namespace="interop"):
            assert client.wbem.GetInstance(path).classname == name
    with pytest.raises(pywbem.CIMError) as caught:
        elsewhere = client.pool
        elsewhere.namespace = "interop"
        client.wbem.GetInstance(elsewhere)
    assert caught.value.status_code == pywbem.CIM_ERR_NOT_FOUND


def test_every_end_of_every_association_leads_to_the_other(filled, declared):
    """Whatever a reference names is there, also in the other namespace, and leads back."""
    wbem, checked = filled.wbem, 0
    for namespace in (NAMESPACE, "interop"):
        names = [name for name, own in declared.items()
                 if "Association" in own.qualifiers and not any(
                     other.superclass == name for other in declared.values())]
        for name in names:
            for one in wbem.EnumerateInstances(name, namespace=namespace):
                ends = {n: p.value for n, p in one.properties.items() if p.type == "reference"}
                assert len(ends) == 2, one.classname
                for role, path in ends.items():
                    assert path.host, "references lead to other namespaces, too"
                    assert wbem.GetInstance(path).classname == path.classname
                    [other_role] = set(ends) - {role}
                    other = ends[other_role]
                    found = wbem.AssociatorNames(path, AssocClass=name, Role=role,
                                                 ResultClass=other.classname,
                                                 ResultRole=other_role)
                    assert same(other, found), (one.classname, role)
                    again = wbem.Associators(path, AssocClass=name, PropertyList=["Caption"])
                    assert same(other, [it.path for it in again])
                    links = wbem.ReferenceNames(path, ResultClass=name, Role=role)
                    assert any(link.keybindings == one.path.keybindings for link in links)
                    checked += 1
    assert checked > 60


def same(path, others):
    return any((path.namespace, path.classname, path.keybindings)
               == (other.namespace, other.classname, other.keybindings) for other in others)


def test_profiles_are_those_that_something_keeps_to(client):
    profiles = client.wbem.EnumerateInstances("CIM_RegisteredProfile", namespace="interop")
    names = {p["RegisteredName"]: p for p in profiles}
    assert {"Array", "Block Services", "Health", "Masking and Mapping", "iSCSI Target Ports", "Job Control",
            "Replication Services", "Software", "Profile Registration",
            "Indications"} == set(names)
    for profile in profiles:
        assert profile["RegisteredOrganization"] in (2, 11)
        [element] = client.wbem.Associators(profile.path, AssocClass="CIM_ElementConformsToProfile")
        back = client.wbem.AssociatorNames(element.path, AssocClass="CIM_ElementConformsToProfile",
                                           ResultClass="CIM_RegisteredProfile")
        assert same(profile.path, back)
    parts = client.wbem.AssociatorNames(names["Array"].path,
                                        AssocClass="CIM_SubProfileRequiresProfile")
    assert len(parts) == 7
