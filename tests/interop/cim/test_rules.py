"""Rules that decide whether clients work at all, each of which one of them has taught.

wbemcli's parser is in `wbemcli.py`; what libstoragemgmt, cinder and ViPR do, in `test_sequences.py`.
"""

import pywbem
import pytest

from client import MIB, NAMESPACE, TERMINAL
from test_hostile import CALL, GOOD, PLACE, send


def method(name, keys, class_name, *parameters):
    """The message that calls a method, and its headers."""
    bindings = "".join(f'<KEYBINDING NAME="{key}"><KEYVALUE>{value}</KEYVALUE></KEYBINDING>'
                       for key, value in keys.items())
    call = (f'<METHODCALL NAME="{name}"><LOCALINSTANCEPATH><LOCALNAMESPACEPATH>{PLACE}'
            f'</LOCALNAMESPACEPATH><INSTANCENAME CLASSNAME="{class_name}">{bindings}'
            f'</INSTANCENAME></LOCALINSTANCEPATH>{"".join(parameters)}</METHODCALL>')
    object_path = f"{NAMESPACE}:{class_name}." + ",".join(
        f'{key}="{value}"' for key, value in keys.items())
    return GOOD.replace(CALL, call), {"CIMMethod": name, "CIMObject": object_path}


def value(name, text):
    """A parameter as wbemcli sends it: without its type."""
    return f'<PARAMVALUE NAME="{name}"><VALUE>{text}</VALUE></PARAMVALUE>'


def operation(name, class_name="CIM_ManagedElement", more=""):
    body = GOOD.replace("EnumerateInstanceNames", name).replace("CIM_StoragePool", class_name)
    return body.replace("</IMETHODCALL>", more + "</IMETHODCALL>"), {"CIMMethod": name}


@pytest.fixture
def job(client):
    """A job that went well; there is one that failed, too."""
    client.wait(client.create("too large", 1 << 62))
    names = [v["ElementName"] for v in client.wbem.EnumerateInstances("CIM_StorageVolume")]
    name = f"rules {len(names)}"
    path = client.create(name)
    client.wait(path)
    return path


def test_1_no_tag_closes_itself(lund, job):
    for name in ("EnumerateInstances", "EnumerateInstanceNames", "EnumerateClassNames"):
        body, headers = operation(name)
        assert b"/>" not in send(lund, body, **headers)[2], name
    body, headers = operation("GetClass", "MSISCSITARGET_ConcreteJob")
    assert b"/>" not in send(lund, body, **headers)[2]
    for name in ("GetError", "GetErrors"):
        body, headers = method(name, dict(job.keybindings), "MSISCSITARGET_ConcreteJob")
        assert b"/>" not in send(lund, body, **headers)[2], name


def test_2_an_output_without_a_value_is_left_out(lund, client, job):
    body, headers = method("GetError", dict(job.keybindings), "MSISCSITARGET_ConcreteJob")
    status, _, answer = send(lund, body, **headers)
    assert status == 200 and b"<RETURNVALUE" in answer and b"PARAMVALUE" not in answer
    # Size alone: no job was made.
    service = client.service
    body, headers = method("CreateOrModifyElementFromStoragePool", dict(service.keybindings),
                           service.classname, value("ElementName", "odd"), value("ElementType", 5),
                           value("Size", 513))
    answer = send(lund, body, **headers)[2]
    assert b">4097<" in answer and b'NAME="Size"' in answer and b'NAME="Job"' not in answer


def test_3_a_cim_error_stands_in_an_error_only_for_who_can_read_it(lund, client):
    service = client.service
    words = [value("ElementName", "rules/"), value("ElementType", 5), value("Size", MIB)]
    body, headers = method("CreateOrModifyElementFromStoragePool", dict(service.keybindings),
                           service.classname, *words)
    answer = send(lund, body, **headers)[2]
    assert b"<ERROR " in answer and b'CLASSNAME="CIM_Error"' in answer
    answer = send(lund, body, CIMProtocolVersion="1.0", **headers)[2]
    assert b"<ERROR " in answer and b"CIM_Error" not in answer


def test_4_a_job_at_its_end_shows_everything_that_anybody_looks_at(client, job):
    outcomes = set()
    for one in client.wbem.EnumerateInstances("CIM_ConcreteJob"):
        if one["JobState"] not in TERMINAL:
            continue
        done = one["JobState"] == 7
        outcomes.add(done)
        status = one["OperationalStatus"]
        assert one["PercentComplete"] == 100
        assert (2 in status) == done and (6 in status) != done
        assert not done or sorted(status) == [2, 17]
        assert (one["ErrorCode"] == 0) == done
        assert isinstance(one["ErrorDescription"], str)
        assert len(one["StatusDescriptions"]) == len(status)
    assert outcomes == {True, False}


def test_5_superclasses_mean_what_is_below_them(lund, client, job):
    wbem = client.wbem
    for name in ("CIM_Job", "CIM_LogicalElement", "cim_managedelement"):
        found = wbem.EnumerateInstances(name)
        assert job["InstanceID"] in [i["InstanceID"] for i in found if "InstanceID" in i], name
    # DeepInheritance that is left out is TRUE.
    body, headers = operation("EnumerateInstances", "CIM_Job")
    assert b'NAME="JobState"' in send(lund, body, **headers)[2]
    assert wbem.AssociatorNames(job, AssocClass="CIM_Dependency") == []
    [volume] = wbem.AssociatorNames(job, AssocClass="CIM_AffectedJobElement",
                                    ResultClass="CIM_LogicalDevice")
    assert volume.classname == "MSISCSITARGET_StorageVolume"


def test_6_associations_cross_namespaces_and_their_paths_may_be_sent_back(lund, client):
    wbem = client.wbem
    [array] = [p for p in wbem.EnumerateInstanceNames("CIM_RegisteredProfile", "interop")
               if "Array" in p["InstanceID"]]
    [system] = wbem.AssociatorNames(array, AssocClass="CIM_ElementConformsToProfile",
                                    ResultClass="CIM_ComputerSystem")
    assert system.namespace == NAMESPACE and system.host
    profiles = wbem.AssociatorNames(system, AssocClass="CIM_ElementConformsToProfile")
    assert any(p["InstanceID"] == array["InstanceID"] and p.namespace == "interop" for p in profiles)
    pool, service = client.pool, client.service
    local = "".join(f'<KEYBINDING NAME="{k}"><KEYVALUE>{v}</KEYVALUE></KEYBINDING>'
                    for k, v in pool.keybindings.items())
    name = f'<INSTANCENAME CLASSNAME="{pool.classname}">{local}</INSTANCENAME>'
    place = f"<LOCALNAMESPACEPATH>{PLACE}</LOCALNAMESPACEPATH>"
    for number, path in enumerate([
            name, f"<LOCALINSTANCEPATH>{place}{name}</LOCALINSTANCEPATH>",
            f"<INSTANCEPATH><NAMESPACEPATH><HOST>{lund.portal}</HOST>{place}</NAMESPACEPATH>{name}"
            "</INSTANCEPATH>"]):
        reference = (f'<PARAMVALUE NAME="InPool"><VALUE.REFERENCE>{path}</VALUE.REFERENCE>'
                     '</PARAMVALUE>')
        body, headers = method("CreateOrModifyElementFromStoragePool", dict(service.keybindings),
                               service.classname, value("ElementName", f"form {number}"),
                               value("ElementType", 5), value("Size", MIB), reference)
        assert b">4096<" in send(lund, body, **headers)[2], path


def test_7_parameters_without_a_type_have_that_of_their_declaration(lund, client, job):
    body, headers = method("RequestStateChange", dict(job.keybindings), "MSISCSITARGET_ConcreteJob",
                           value("RequestedState", "4"))
    # Of a job that has ended: an invalid transition.
    assert b">4097<" in send(lund, body, **headers)[2]
    body, headers = method("RequestStateChange", dict(job.keybindings), "MSISCSITARGET_ConcreteJob",
                           value("RequestedState", "four"))
    assert b'<ERROR CODE="4"' in send(lund, body, **headers)[2]


def test_8_a_class_says_what_clients_read_from_it(client):
    get = client.wbem.GetClass("MSISCSITARGET_ConcreteJob", LocalOnly=False)
    assert get.properties["InstanceID"].qualifiers["Key"].value is True
    state = get.properties["JobState"].qualifiers
    assert state["Values"].value[state["ValueMap"].value.index("7")] == "Completed"
    parameter = get.methods["GetError"].parameters["Error"].qualifiers
    assert parameter["EmbeddedInstance"].value == "CIM_Error" and parameter["Out"].value is True
    service = client.wbem.GetClass("MSISCSITARGET_StorageConfigurationService", LocalOnly=False)
    create = service.methods["CreateOrModifyElementFromStoragePool"]
    assert create.parameters["Job"].qualifiers["In"].value is False


def test_9_the_same_number_means_what_the_method_says(client):
    service = "CIM_StorageHardwareIDManagementService"
    named = {"StorageID": "iqn.2026-01.example:rules", "IDType": pywbem.Uint16(5)}
    assert client.call(service, "CreateStorageHardwareID", **named)[0] == 0
    value, output = client.call(service, "CreateStorageHardwareID", **named)
    # Not that a job was started.
    assert value == 4096 and "Job" not in output


def test_10_element_types_are_those_of_the_method(client):
    two, three = pywbem.Uint16(2), pywbem.Uint16(3)
    value, output = client.call("CIM_StorageConfigurationService",
                                "CreateOrModifyElementFromStoragePool", ElementName="two",
                                ElementType=two, Size=pywbem.Uint64(MIB), InPool=client.pool)
    assert value == 4096 and client.wait(output["Job"])["JobState"] == 7
    ask = client.wbem.InvokeMethod
    assert ask("GetSupportedSizeRange", client.pool, ElementType=two)[0] == 3
    assert ask("GetSupportedSizeRange", client.pool, ElementType=three)[0] == 0
