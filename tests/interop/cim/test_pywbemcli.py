"""pywbemtools: every command that operators use, as they type it."""

import pathlib
import re
import subprocess
import sys

import pytest

from client import MIB, NAMESPACE

CLI = pathlib.Path(sys.executable).parent / "pywbemcli"
INITIATOR = "iqn.2026-01.example:pywbemcli"


@pytest.fixture
def cli(lund):
    def run(*words, output="mof"):
        done = subprocess.run([CLI, "-s", lund.server, "-d", NAMESPACE, "-o", output, *words],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout
    return run


def uri(path):
    """As it is typed: without a host."""
    bare = path.copy()
    bare.host = bare.namespace = None
    return f"{NAMESPACE}:" + bare.to_wbem_uri().lstrip("/:")


def test_instances_and_their_neighbours(cli, client):
    volume = client.make_disk("pywbemcli", 4 * MIB)
    view = client.expose(LUNames=[volume["Name"]], InitiatorPortIDs=[INITIATOR])
    identifier = volume["DeviceID"]
    assert identifier in cli("instance", "enumerate", "CIM_StorageVolume", "--no")
    assert 'ElementName = "pywbemcli"' in cli("instance", "enumerate", "CIM_StorageVolume")
    assert "pywbemcli" in cli("instance", "enumerate", "CIM_StorageVolume",
                                 "--pl", "ElementName", output="table")
    path = uri(volume.path)
    assert identifier in cli("instance", "get", path)
    assert INITIATOR in cli("instance", "associators", uri(view),
                            "--ac", "CIM_AssociatedPrivilege")
    assert "StoragePool" in cli("instance", "associators", path, "--ac",
                                "CIM_AllocatedFromStoragePool", "--no")
    assert "CIM_AllocatedFromStoragePool" in cli("class", "get", "CIM_AllocatedFromStoragePool")
    assert "ProtocolControllerForUnit" in cli("instance", "references", path, "--no")
    # Value maps are looked up in the classes.
    table = cli("instance", "enumerate", "CIM_StorageVolume", "--pl", "ElementName,HealthState", output="table")
    assert "pywbemcli" in table and "5 (OK)" in table
    # Without keys it asks for the names and lets the user choose; of one there is no choice.
    chosen = cli("instance", "get", "MSISCSITARGET_StorageConfigurationService.?")
    assert "MSISCSITARGET_StorageConfigurationService" in chosen and "Started = true" in chosen


def test_methods(cli, client):
    pool = client.pool
    words = ["instance", "invokemethod", "MSISCSITARGET_StorageConfigurationService.?",
             "CreateOrModifyElementFromStoragePool", "-p", "ElementName=typed",
             "-p", "ElementType=5", "-p", f"Size={4 * MIB}",
             "-p", f'InPool={NAMESPACE}:{pool.classname}.InstanceID="{pool["InstanceID"]}"']
    assert "ReturnValue=4096" in cli(*words).replace(" ", "")
    [job] = [j for j in client.wbem.EnumerateInstances("CIM_ConcreteJob") if "typed" in j["Name"]]
    assert client.wait(job.path)["JobState"] == 7


def test_every_class_is_counted(cli, client):
    """It asks for the names of the instances of every class in every namespace."""
    client.make_disk("counted")
    table = cli("instance", "count", output="table")
    counts = dict(re.findall(r"(\w+) +\|? *(\d+)", table))
    assert int(counts["MSISCSITARGET_StorageVolume"]) >= 1
    assert counts["MSISCSITARGET_StorageConfigurationService"] == "1"
    assert "MSFTSM_RegisteredProfile" in table


def test_classes_profiles_and_the_server(cli):
    assert "CIM_StorageVolume" in cli("class", "enumerate", "--di", "--no")
    assert "class MSISCSITARGET_ConcreteJob" in cli("class", "enumerate", "CIM_ConcreteJob")
    assert "RequestStateChange" in cli("class", "get", "MSISCSITARGET_ConcreteJob")
    assert "MSISCSITARGET_ControllerConfigurationService" in cli(
        "class", "enumerate", "CIM_Service", "--di", "--no")
    assert "MSISCSITARGET_StoragePool" in cli("instance", "count", "MSISCSITARGET_Storage*",
                                              output="table")
    assert NAMESPACE in cli("namespace", "list", output="table")
    assert "lund" in cli("server", "info", output="table")
    profiles = cli("profile", "list", output="table")
    for name in ("Array", "Masking and Mapping", "Replication Services", "Indications"):
        assert name in profiles


def test_subscriptions(cli, client):
    cli("subscription", "add-destination", "here", "-l", "http://127.0.0.1:59999")
    cli("subscription", "add-filter", "jobs", "-q",
        "SELECT * FROM CIM_InstCreation WHERE SourceInstance ISA CIM_ConcreteJob",
        "--query-language", "DMTF:CQL", "--source-namespaces", NAMESPACE)
    cli("subscription", "add-subscription", "here", "jobs")
    assert "jobs" in cli("subscription", "list-filters", output="table")
    assert "here" in cli("subscription", "list-destinations", output="table")
    assert "jobs" in cli("subscription", "list-subscriptions", output="table")
    assert "CIM_IndicationSubscription" in cli("subscription", "list-subscriptions")
    cli("subscription", "remove-subscription", "here", "jobs")
    assert client.wbem.EnumerateInstanceNames("CIM_IndicationSubscription", "interop") == []
    cli("subscription", "remove-filter", "jobs")
    cli("subscription", "remove-destination", "here")
