"""What was said before a restart is said after it, whether the daemon was stopped or killed."""

import pytest

from client import MIB, Client


def prepare(client):
    """Jobs of all ends; their paths by what they are."""
    free = client.wbem.GetInstance(client.pool)["RemainingManagedSpace"]
    done = client.create("kept", 5 * MIB)
    failed = client.create("too large", (free // MIB + (1 << 20)) * MIB)
    client.wait(done)
    client.wait(failed)
    terminated, others = client.catch("terminate", lambda job: client.request_state(job, 4))
    killed, more = client.catch("kill", client.kill)
    for path in others + more:
        client.wait(path)
    return {"done": done, "failed": failed, "terminated": terminated, "killed": killed}


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_jobs_and_disks_are_the_same_after_a_restart(own_lund, how):
    client = Client(own_lund.server)
    paths = prepare(client)
    before = {what: (client.job(path), client.error(path)) for what, path in paths.items()}
    assert {what: job["JobState"] for what, (job, _) in before.items()} == {
        "done": 7, "failed": 10, "terminated": 8, "killed": 9}
    [disk] = client.volumes(paths["done"])

    if how == "SIGTERM":
        assert own_lund.stop() == 0
    else:
        own_lund.kill()
    own_lund.start()

    client = Client(own_lund.server)
    for what, path in paths.items():
        # The port is another one: the path is the same without the host.
        path.host = None
        job, error = before[what]
        assert client.job(path).properties == job.properties, what
        assert client.error(path) == error, what
    path = disk.path
    path.host = None
    assert client.wbem.GetInstance(path).properties == disk.properties
    assert "cancelled" in client.error(paths["terminated"])["Message"].lower()
    assert "capacity" in client.error(paths["failed"])["Message"]


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_a_job_that_was_at_work_ends_after_the_restart(own_lund, how):
    client = Client(own_lund.server)
    free = client.wbem.GetInstance(client.pool)["RemainingManagedSpace"]
    size = min(free // 32, 4096 * MIB) // MIB * MIB
    paths = [client.create(f"full-{n}", size, kind=7) for n in range(12)]
    if how == "SIGTERM":
        assert own_lund.stop() == 0
    else:
        own_lund.kill()
    own_lund.start()
    client = Client(own_lund.server)
    for path in paths:
        path.host = None
        assert client.wait(path)["JobState"] == 7
        assert len(client.volumes(path)) == 1
