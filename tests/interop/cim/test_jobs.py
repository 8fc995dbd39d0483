"""Disks are made and deleted in jobs, and jobs tell what became of them."""

import time

import pywbem
import pytest

from client import MIB, TERMINAL


def status(code):
    """`with status(…)`: refused with this code."""
    return pytest.raises(pywbem.CIMError, check=lambda error: error.status_code == code)


def test_a_disk_is_made_and_the_job_leads_to_it(client):
    path = client.create("first", 3 * MIB)
    job = client.wait(path)
    assert job["JobState"] == 7
    assert sorted(job["OperationalStatus"]) == [2, 17]
    assert len(job["StatusDescriptions"]) == len(job["OperationalStatus"])
    assert job["TimeBeforeRemoval"].timedelta.total_seconds() == 300
    assert client.error(path) is None
    [volume] = client.volumes(path)
    assert volume["ElementName"] == "first"
    assert volume["BlockSize"] * volume["NumberOfBlocks"] == 3 * MIB
    assert volume["Name"].startswith("6") and len(volume["Name"]) == 32
    [pool] = client.wbem.AssociatorNames(volume.path, AssocClass="CIM_AllocatedFromStoragePool",
                                         ResultClass="CIM_StoragePool")
    assert pool["InstanceID"] == client.pool["InstanceID"]


def test_thin_and_full(client):
    assert client.make_disk("thin", kind=5)["ThinlyProvisioned"] is True
    full = client.make_disk("full", kind=7)
    assert full["ThinlyProvisioned"] is False
    assert full["MSType"] == 2


def test_a_disk_larger_than_the_pool_fails_with_the_reason(client):
    free = client.wbem.GetInstance(client.pool)["RemainingManagedSpace"]
    path = client.create("too large", (free // MIB + (1 << 20)) * MIB)
    job = client.wait(path)
    assert job["JobState"] == 10
    assert job["OperationalStatus"][0] == 6
    assert job["HealthState"] == 25
    error = client.error(path)
    assert "capacity" in error["Message"]
    assert error["ProbableCause"] == 50
    assert error["ErrorType"] == 8
    assert error["MessageID"] == "ISCT-STG-001"
    assert error["CIMStatusCode"] == 1
    assert error["RecommendedActions"]
    assert client.volumes(path) == []


def test_a_terminated_job_says_that_it_was_cancelled(client):
    path, jobs = client.catch("terminate", lambda job: client.request_state(job, 4))
    job = client.wait(path)
    assert job["JobState"] == 8
    assert 6 in job["OperationalStatus"] and 2 not in job["OperationalStatus"]
    error = client.error(path)
    assert "cancelled" in error["Message"].lower()
    assert error["OtherErrorType"] == "Cancelled"
    assert client.volumes(path) == []
    # Nothing leads away from the end.
    assert client.request_state(path, 2) == 4097
    assert client.job(path)["TimeOfLastStateChange"] == job["TimeOfLastStateChange"]
    client.discard(jobs)


def test_a_killed_job_says_so(client):
    path, jobs = client.catch("kill", client.kill)
    job = client.wait(path)
    assert job["JobState"] == 9
    assert job["DeleteOnCompletion"] is False
    assert client.error(path)["OtherErrorType"] == "Killed"
    # It has ended: there is nothing left to kill.
    assert client.kill(path, delete=True) == 4
    client.discard(jobs)


def test_a_job_is_suspended_and_goes_on(client):
    def suspend(job):
        """A job at work may come to its end before the next step."""
        value = client.request_state(job, 3)
        while value == 4096 and client.job(job)["JobState"] not in (5, *TERMINAL):
            time.sleep(0.02)
        return 1 if client.job(job)["JobState"] in TERMINAL else value

    path, jobs = client.catch("suspend", suspend)
    for other in jobs[:-1]:
        client.wait(other)
    job = client.job(path)
    assert job["JobState"] == 5
    assert client.error(path) is None
    with status(pywbem.CIM_ERR_FAILED):
        client.wbem.DeleteInstance(path)
    assert client.request_state(path, 2) in (0, 4096)
    assert client.wait(path)["JobState"] == 7
    client.discard(jobs)


def test_requests_for_states_that_are_not_there(client):
    path = client.create("states")
    client.wait(path)
    assert client.request_state(path, 99) == 5
    assert client.request_state(path, 6) in (1, 4097)
    minute = pywbem.CIMDateTime("00000000000100.000000:000")
    assert client.request_state(path, 4, TimeoutPeriod=minute) == 4098
    assert client.request_state(path, 4) == 4097


def test_a_disk_grows_and_shrinks(client):
    volume = client.make_disk("growing")

    def expand(size, **more):
        return client.wbem.InvokeMethod("CreateOrModifyElementFromStoragePool", client.service,
                                        TheElement=volume.path, Size=pywbem.Uint64(size), **more)

    value, output = expand(8 * MIB)
    assert (value, output["Size"]) == (4096, 8 * MIB)
    job = client.wait(output["Job"])
    assert job["JobState"] == 7 and client.error(output["Job"]) is None
    grown = client.wbem.GetInstance(volume.path)
    assert grown["BlockSize"] * grown["NumberOfBlocks"] == 8 * MIB
    value, output = expand(8 * MIB)
    assert (value, output["Size"]) == (4097, 8 * MIB + 512)
    free = client.wbem.GetInstance(client.pool)["RemainingManagedSpace"]
    value, output = expand((free // MIB + (1 << 20)) * MIB)
    assert value == 4096
    assert client.wait(output["Job"])["JobState"] == 10
    assert client.error(output["Job"])["MessageID"] == "ISCT-STG-001"
    assert expand(16 * MIB, ElementName="another name")[0] == 1
    grown = client.wbem.GetInstance(volume.path)
    assert grown["BlockSize"] * grown["NumberOfBlocks"] == 8 * MIB
    value, output = expand(4 * MIB)
    assert (value, client.wait(output["Job"])["JobState"]) == (4096, 7)
    assert client.wbem.GetInstance(volume.path)["NumberOfBlocks"] * 512 == 4 * MIB


def test_a_disk_is_given_back(client):
    volume = client.make_disk("short-lived")
    path = client.give_back(volume.path)
    assert client.wait(path)["JobState"] == 7
    assert client.error(path) is None
    with status(pywbem.CIM_ERR_NOT_FOUND):
        client.wbem.GetInstance(volume.path)
    with status(pywbem.CIM_ERR_NOT_FOUND):
        client.wbem.InvokeMethod("ReturnToStoragePool", client.service, TheElement=volume.path)
    # The name is free again.
    client.make_disk("short-lived")


def test_a_refused_request_tells_why_as_a_cim_error(client):
    client.make_disk("taken")
    with status(pywbem.CIM_ERR_ALREADY_EXISTS) as caught:
        client.create("taken")
    [error] = caught.value.instances
    assert error.classname == "CIM_Error"
    assert error["MessageID"] == "ISCT-CFG-002"
    assert "taken" in error["Message"]
    assert error["CIMStatusCode"] == pywbem.CIM_ERR_ALREADY_EXISTS


def test_sizes_and_types_that_are_not_there(client):
    def call(**more):
        arguments = {"ElementName": "odd", "ElementType": pywbem.Uint16(2),
                     "Size": pywbem.Uint64(MIB), "InPool": client.pool, **more}
        return client.wbem.InvokeMethod("CreateOrModifyElementFromStoragePool", client.service,
                                        **arguments)

    value, output = call(Size=pywbem.Uint64(1000))
    assert (value, output["Size"]) == (4097, 1024)
    assert "Job" not in output
    assert call(ElementType=pywbem.Uint16(4))[0] == 1
    assert call(ElementType=pywbem.Uint16(77))[0] == 5
    volume = client.make_disk("fixed size")
    assert call(TheElement=volume.path, Size=pywbem.Uint64(2 * MIB))[0] == 1


def test_job_settings_are_written_and_the_rest_is_not(client):
    path = client.create("settings")
    client.wait(path)
    job = client.job(path)
    job["DeleteOnCompletion"] = False
    job["TimeBeforeRemoval"] = pywbem.CIMDateTime("00000000010000.000000:000")
    job["Notify"] = "somebody"
    job.path = path
    client.wbem.ModifyInstance(job)
    changed = client.job(path)
    assert changed["DeleteOnCompletion"] is False
    assert changed["TimeBeforeRemoval"].timedelta.total_seconds() == 3600
    assert changed["Notify"] == "somebody"
    assert changed["JobState"] == 7

    job["JobState"] = pywbem.Uint16(4)
    with status(pywbem.CIM_ERR_NOT_SUPPORTED):
        client.wbem.ModifyInstance(job, PropertyList=["JobState"])
    job["JobRunTimes"] = pywbem.Uint32(3)
    with status(pywbem.CIM_ERR_NOT_SUPPORTED):
        client.wbem.ModifyInstance(job)
    with status(pywbem.CIM_ERR_NO_SUCH_PROPERTY):
        client.wbem.ModifyInstance(job, PropertyList=["Colour"])
    client.wbem.DeleteInstance(path)
    with status(pywbem.CIM_ERR_NOT_FOUND):
        client.wbem.GetInstance(path)


def test_every_job_of_this_file_is_in_a_state_that_agrees_with_itself(client):
    for job in client.wbem.EnumerateInstances("CIM_ConcreteJob"):
        ended = job["JobState"] in TERMINAL
        assert (job["PercentComplete"] == 100) == ended
        assert (2 in job["OperationalStatus"] and 17 in job["OperationalStatus"]) == (
            job["JobState"] == 7)
        assert (job["ErrorCode"] == 0) == (job["JobState"] == 7 or not ended)
