"""Indications, as pywbem's listener and subscription manager have them."""

import contextlib
import json
import os
import queue
import socket
import subprocess
import time
import urllib.request

import pytest
import pywbem

from client import MIB, Client
from lund import Lund, binary

CREATED = "SELECT * FROM CIM_InstCreation WHERE SourceInstance ISA CIM_ConcreteJob"
CHANGED = ("SELECT * FROM CIM_InstModification WHERE SourceInstance ISA CIM_ConcreteJob AND "
           "SourceInstance.CIM_ConcreteJob::JobState <> PreviousInstance.CIM_ConcreteJob::JobState")
SUCCEEDED = ("SELECT * FROM CIM_InstModification WHERE SourceInstance ISA CIM_ConcreteJob AND "
             "ANY SourceInstance.CIM_ConcreteJob::OperationalStatus[*] = 17 AND "
             "ANY SourceInstance.CIM_ConcreteJob::OperationalStatus[*] = 2")
VOLUMES = "SELECT * FROM CIM_InstIndication WHERE SourceInstance ISA CIM_StorageVolume"
# Longer than anything takes that works.
PATIENCE = 60


# They would go before the file that a client names.
for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
    os.environ.pop(name, None)


def free_port():
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Ear:
    """A listener; what it has heard."""

    def __init__(self, port=None, certificate=None):
        self.port = port or free_port()
        self.certificate = certificate
        self.heard = queue.Queue()
        self.numbers = []

    def __enter__(self):
        if self.certificate:
            self.listener = pywbem.WBEMListener("127.0.0.1", https_port=self.port, certfile=str(self.certificate),
                                                keyfile=str(self.certificate.with_suffix(".key")))
        else:
            self.listener = pywbem.WBEMListener("127.0.0.1", http_port=self.port)
        self.listener.add_callback(lambda indication, host: self.heard.put(indication))
        self.listener.start()
        return self

    def __exit__(self, *exception):
        self.listener.stop()

    def next(self):
        indication = self.heard.get(timeout=PATIENCE)
        self.numbers.append(int(indication["SequenceNumber"]))
        return indication

    def nothing(self):
        return self.heard.empty()


class Manager:
    """pywbem's subscription manager; what it made goes with it."""

    def __init__(self, server):
        self.connection = pywbem.WBEMConnection(server, timeout=60)
        self.wbem = pywbem.WBEMSubscriptionManager(subscription_manager_id="test")
        self.server_id = self.wbem.add_server(pywbem.WBEMServer(self.connection))

    def subscribe(self, port, *queries, language="DMTF:CQL", owned=True, scheme="http"):
        name = {"destination_id": "ear"} if owned else {"name": "kept"}
        destination = self.wbem.add_destination(
            self.server_id, f"{scheme}://127.0.0.1:{port}", owned=owned, **name)
        for number, query in enumerate(queries):
            name = {"filter_id": f"q{number}"} if owned else {"name": f"kept{number}"}
            made = self.wbem.add_filter(
                self.server_id, source_namespaces="root/cimv2/storage/iscsitarget", query=query,
                query_language=language, owned=owned, **name)
            self.wbem.add_subscriptions(self.server_id, made.path, destination.path, owned=owned)


@contextlib.contextmanager
def subscriptions(server):
    manager = Manager(server)
    try:
        yield manager
    finally:
        manager.wbem.remove_all_servers()


@pytest.fixture
def manager(server):
    with subscriptions(server) as made:
        yield made


def test_a_job_is_told_from_its_creation_to_its_outcome(client, manager):
    with Ear() as ear:
        manager.subscribe(ear.port, CREATED, CHANGED, SUCCEEDED, VOLUMES)
        job = client.create("told")
        created = ear.next()
        assert created.classname == "CIM_InstCreation"
        assert created["SourceInstance"]["InstanceID"] == job["InstanceID"]
        assert created["SourceInstanceModelPath"].endswith(f'InstanceID="{job["InstanceID"]}"')
        states, volume, outcome = [created["SourceInstance"]["JobState"]], None, None
        while volume is None or outcome is None:
            told = ear.next()
            source = told["SourceInstance"]
            if source.classname == "MSISCSITARGET_StorageVolume":
                volume = source["ElementName"]
            elif told["IndicationFilterName"].endswith("q1"):
                assert told["PreviousInstance"]["JobState"] == states[-1]
                states.append(source["JobState"])
            else:
                assert outcome is None, "the outcome comes once"
                outcome = sorted(source["OperationalStatus"])
        assert volume == "told" and outcome == [2, 17]
        assert states[-1] == 7 and states == sorted(set(states)), states
        assert ear.numbers == list(range(len(ear.numbers))), "each once and in order"
        assert ear.nothing()


def test_a_listener_that_was_away_misses_nothing(client, manager):
    port = free_port()
    manager.subscribe(port, CREATED, language="WQL")
    jobs = [client.create(f"away{number}") for number in range(3)]
    for job in jobs:
        # Nobody waits for the listener.
        assert client.wait(job)["JobState"] == 7
    with Ear(port) as ear:
        told = [ear.next()["SourceInstance"]["InstanceID"] for _ in jobs]
        assert told == [job["InstanceID"] for job in jobs]
        assert ear.numbers == [0, 1, 2]
        # What comes later comes behind it.
        later = client.create("back")
        assert ear.next()["SourceInstance"]["InstanceID"] == later["InstanceID"]
        assert ear.nothing()


def test_subscriptions_survive_a_kill(own_lund):
    with Ear() as ear:
        with subscriptions(own_lund.server) as manager:
            manager.subscribe(ear.port, CREATED, owned=False)
        own_lund.kill()
        own_lund.start()
        client = Client(own_lund.server)
        job = client.create("after")
        assert ear.next()["SourceInstance"]["InstanceID"] == job["InstanceID"]
        interop = pywbem.WBEMConnection(own_lund.server, default_namespace="interop", timeout=60)
        for name in ("CIM_IndicationSubscription", "CIM_IndicationFilter", "CIM_ListenerDestinationCIMXML"):
            paths = interop.EnumerateInstanceNames(name)
            assert len(paths) == 1, paths
            interop.DeleteInstance(paths[0])
            assert interop.EnumerateInstanceNames(name) == []
        client.wait(client.create("unheard"))
        assert ear.nothing()


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_what_a_listener_has_not_taken_survives_a_restart(own_lund, how):
    """Each indication once and in order, those of all lives of the daemon.

    One that was taken in the moment of a crash may come again, with the number that it had.
    """
    port = free_port()
    with subscriptions(own_lund.server) as manager:
        manager.subscribe(port, CREATED, CHANGED, owned=False)
    told, contexts, taken = [], set(), {}

    def take(ear, until):
        while True:
            indication = ear.next()
            contexts.add(indication["SequenceContext"])
            number, name = ear.numbers[-1], indication["IndicationIdentifier"]
            if how == "SIGKILL" and number == max(taken, default=-1):
                assert taken[number] == name
                continue
            taken[number] = name
            source = indication["SourceInstance"]
            told.append((source["InstanceID"], indication.classname, source["JobState"]))
            if told[-1] == until:
                return

    def make(name):
        client = Client(own_lund.server)
        path = client.create(name)
        assert client.wait(path)["JobState"] == 7
        return path["InstanceID"]

    def again():
        if how == "SIGTERM":
            assert own_lund.stop() == 0
        else:
            own_lund.kill()
        own_lund.start()

    jobs = [make("first"), make("second")]
    again()
    jobs.append(make("third"))
    again()
    ended = (jobs[2], "CIM_InstModification", 7)
    with Ear(port) as ear:
        take(ear, until=ended)
        again()
        jobs.append(make("fourth"))
        take(ear, until=(jobs[3], "CIM_InstModification", 7))
        assert ear.nothing()
    assert list(taken) == list(range(len(told))), "each once, in order, none missing"
    assert len(contexts) == 1
    for job in jobs:
        states = [state for name, _, state in told if name == job]
        kinds = [kind for name, kind, _ in told if name == job]
        assert kinds.count("CIM_InstCreation") == 1 and kinds[0] == "CIM_InstCreation"
        assert states == sorted(set(states)) and states[-1] == 7, states
    assert [name for name, kind, _ in told if kind == "CIM_InstCreation"] == jobs


def test_a_listener_that_is_removed_leaves_nothing_behind(own_lund):
    """What waited for it is not told to the next one at the same address."""
    port = free_port()
    client = Client(own_lund.server)
    with subscriptions(own_lund.server) as manager:
        manager.subscribe(port, CREATED)
        client.wait(client.create("for nobody"))
    own_lund.restart()
    with subscriptions(own_lund.server) as manager, Ear(port) as ear:
        manager.subscribe(port, CREATED)
        job = client.create("for somebody")
        indication = ear.next()
        assert indication["SourceInstance"]["InstanceID"] == job["InstanceID"]
        assert ear.numbers == [0]


def test_a_disabled_subscription_is_silent_until_it_is_enabled(client, manager):
    with Ear() as ear:
        manager.subscribe(ear.port, CREATED)
        path = manager.connection.EnumerateInstanceNames("CIM_IndicationSubscription", "interop")[0]
        for state, name in ((4, "silent"), (2, "loud")):
            subscription = manager.connection.GetInstance(path)
            subscription["SubscriptionState"] = pywbem.Uint16(state)
            manager.connection.ModifyInstance(subscription)
            job = client.create(name)
            client.wait(job)
        assert ear.next()["SourceInstance"]["InstanceID"] == job["InstanceID"]
        assert ear.nothing()


def test_an_error_of_the_data_path_is_an_alert(own_lund):
    client = Client(own_lund.server)
    client.wait(client.create("lost", 8 * MIB))
    volume = client.wbem.EnumerateInstances("CIM_StorageVolume")[0]

    def lunctl(*words):
        subprocess.run([binary("lunctl"), "--server", own_lund.server, *words], check=True,
                       stdin=subprocess.DEVNULL, capture_output=True)

    lunctl("target", "create", "t")
    lunctl("target", "map", "t", "lost")
    with Ear() as ear, subscriptions(own_lund.server) as manager:
        manager.subscribe(ear.port, "SELECT * FROM CIM_AlertIndication")
        with open(volume["MSDevicePath"], "r+b") as image:
            image.truncate(0)
        url = f"iscsi://{own_lund.portal}/iqn.2026-01.io.lund:t/0"
        deadline = time.monotonic() + PATIENCE
        while ear.nothing():
            assert time.monotonic() < deadline, "no alert"
            subprocess.run(["iscsi-inq", url], stdin=subprocess.DEVNULL, capture_output=True,
                           timeout=PATIENCE)
        alert = ear.next()
        assert alert.classname == "CIM_AlertIndication"
        assert alert["MessageID"] == "ISCT-STG-003" and alert["AlertType"] == 5
        assert alert["PerceivedSeverity"] == 6 and alert["RecommendedActions"]
        assert volume["DeviceID"] in alert["AlertingManagedElement"]


def refused(code, call, *arguments):
    """What is said about it."""
    with pytest.raises(pywbem.CIMError) as caught:
        call(*arguments)
    assert caught.value.status_code == code, caught.value
    return caught.value.status_description


def test_what_cannot_be_is_refused_and_says_why(manager):
    wbem, interop = manager.connection, "interop"

    def made(class_name, **properties):
        return pywbem.CIMInstance(class_name, properties)

    def filter_(**properties):
        given = {"QueryLanguage": "WQL", "Query": CREATED, "Name": "bad", **properties}
        return made("CIM_IndicationFilter", **given)

    def listener(url):
        return made("CIM_ListenerDestinationCIMXML", Destination=url, Name="nobody")

    create = wbem.CreateInstance
    assert "Sorted" in refused(15, create, filter_(Query=CREATED + " Sorted"), interop)
    tapes = CREATED.replace("CIM_ConcreteJob", "CIM_Tape")
    assert "no class CIM_Tape" in refused(15, create, filter_(Query=tapes), interop)
    assert "DMTF:CQL" in refused(14, create, filter_(QueryLanguage="SQL"), interop)
    refused(12, create, filter_(Colour="red"), interop)
    assert "root/other" in refused(4, create, filter_(SourceNamespaces=["root/other"]), interop)
    path = create(filter_(), interop)
    refused(11, create, filter_(), interop)
    assert "https://" in refused(4, create, listener("ftp://127.0.0.1/"), interop)
    secret = listener(f"http://127.0.0.1:{free_port()}")
    secret["password"] = "not to be kept"
    assert "password" in refused(7, create, secret, interop)
    destination = create(listener(f"http://127.0.0.1:{free_port()}"), interop)
    subscription = made("CIM_IndicationSubscription", Filter=path, Handler=path)
    assert "Handler" in refused(4, create, subscription, interop)
    subscription["Handler"] = destination
    subscription["OnFatalErrorPolicy"] = pywbem.Uint16(4)
    assert "OnFatalErrorPolicy" in refused(7, create, subscription, interop)
    del subscription["OnFatalErrorPolicy"]
    subscribed = create(subscription, interop)
    assert "subscription" in refused(1, wbem.DeleteInstance, path)
    changed = wbem.GetInstance(path)
    changed["Query"] = "SELECT * FROM CIM_AlertIndication"
    wbem.ModifyInstance(changed)
    assert wbem.GetInstance(path)["Query"] == changed["Query"]
    changed["Query"] = "nonsense"
    refused(15, wbem.ModifyInstance, changed)
    assert wbem.GetInstance(path)["Query"] == "SELECT * FROM CIM_AlertIndication"
    for one in (subscribed, path, destination):
        wbem.DeleteInstance(one)
        refused(6, wbem.GetInstance, one)
    refused(7, create, made("MSFTSM_Namespace", Name="x"), interop)


def issue(place, name, issuer=None):
    """The certificate of a listener at 127.0.0.1; its fingerprint."""
    certificate = place / f"{name}.pem"
    signed = ["-CA", place / f"{issuer}.pem", "-CAkey", place / f"{issuer}.key"] if issuer else []
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", *signed,
             "-keyout", certificate.with_suffix(".key"), "-out", certificate]
    if issuer:
        words += ["-addext", "basicConstraints=critical,CA:FALSE"]
    subprocess.run(list(map(str, words)), check=True, capture_output=True, timeout=60)
    printed = subprocess.run(["openssl", "x509", "-in", str(certificate), "-noout", "-fingerprint", "-sha256"],
                             check=True, capture_output=True, text=True, timeout=60).stdout
    return certificate, printed.strip().partition("=")[2]


@pytest.mark.parametrize("how", ["authority", "pin"])
def test_over_tls_a_listener_is_told_if_it_is_believed(tmp_path, how):
    _, _ = issue(tmp_path, "authority")
    good, fingerprint = issue(tmp_path, "listener", issuer="authority" if how == "authority" else None)
    stranger, strange = issue(tmp_path, "stranger")
    trust = f"ca = '{tmp_path / 'authority.pem'}'" if how == "authority" else f"pins = ['{fingerprint}']"
    config = tmp_path / "lund.toml"
    config.write_text(f"[management.listeners]\n{trust}\n")
    port = free_port()
    with Lund("--config", config) as lund, subscriptions(lund.server) as manager:
        manager.subscribe(port, CREATED, scheme="https")
        client = Client(lund.server)
        with Ear(port, stranger) as ear:
            jobs = [client.create("secret")]
            deadline = time.monotonic() + PATIENCE
            while f"SHA-256 {strange} is not trusted" not in lund.log.read_text():
                assert time.monotonic() < deadline, lund.log.read_text()
                time.sleep(0.05)
            assert ear.nothing(), "nobody is told who is not believed"
        with Ear(port, good) as ear:
            jobs.append(client.create("told"))
            assert [ear.next()["SourceInstance"]["InstanceID"] for _ in jobs] == [
                job["InstanceID"] for job in jobs]
            assert ear.numbers == [0, 1] and ear.nothing()


def test_snapshots_are_told_of_as_volumes(own_lund):
    client = Client(own_lund.server)
    volume = client.make_disk("told of")
    with Ear() as ear, subscriptions(own_lund.server) as manager:
        manager.subscribe(ear.port, VOLUMES)
        value, output = client.call("CIM_ReplicationService", "CreateElementReplica", ElementName="moment",
                                    SyncType=pywbem.Uint16(7), SourceElement=volume.path)
        assert value == 4096 and client.wait(output["Job"])["JobState"] == 7
        created = ear.next()
        assert created.classname == "CIM_InstCreation"
        [replica] = [it for it in client.wbem.EnumerateInstances("CIM_StorageVolume") if it["Usage"] == 8]
        told = created["SourceInstance"]
        for name in ("DeviceID", "ElementName", "NumberOfBlocks", "BlockSize", "Usage"):
            assert told[name] == replica[name], name
        client.wait(client.give_back(replica.path))
        gone = ear.next()
        assert gone.classname == "CIM_InstDeletion"
        assert gone["SourceInstance"]["DeviceID"] == replica["DeviceID"]
        assert ear.numbers == [0, 1] and ear.nothing()


ABOUT = "SELECT * FROM CIM_InstIndication WHERE SourceInstance ISA {}"


def ask(lund, method, path, body=None):
    request = urllib.request.Request(f"{lund.server}/api/v1{path}", body and json.dumps(body).encode(),
                                     {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read() or "null")


def test_masking_is_told_of(own_lund):
    client = Client(own_lund.server)
    volume = client.make_disk("told of")
    masking = "CIM_ControllerConfigurationService"
    a, b = "iqn.2026-01.example:a", "iqn.2026-01.example:b"
    with Ear() as ear, subscriptions(own_lund.server) as manager:
        manager.subscribe(ear.port, ABOUT.format("CIM_SCSIProtocolController"),
                          ABOUT.format("CIM_ProtocolControllerForUnit"))

        def told(*expected):
            """What comes, by kind and class, as it is expected; the instances."""
            heard = [ear.next() for _ in expected]
            kinds = [(it.classname.removeprefix("CIM_Inst"), it["SourceInstance"].classname.partition("_")[2])
                     for it in heard]
            assert kinds == list(expected), kinds
            return heard

        view = client.expose(LUNames=[volume["Name"]], InitiatorPortIDs=[a])
        made, link = told(("Creation", "SCSIProtocolController"), ("Creation", "ProtocolControllerForUnit"))
        assert made["SourceInstance"]["DeviceID"] == view["DeviceID"]
        link = link["SourceInstance"]
        assert (link["DeviceNumber"], link["DeviceAccess"]) == ("0", 2)
        assert link["Antecedent"]["DeviceID"] == view["DeviceID"]
        assert link["Dependent"]["DeviceID"] == volume["DeviceID"]
        [known] = client.wbem.References(volume.path, ResultClass="CIM_ProtocolControllerForUnit")
        assert all(known[name] == link[name] for name in ("DeviceNumber", "DeviceAccess"))
        assert all(known[name].keybindings == link[name].keybindings for name in ("Antecedent", "Dependent"))

        # Everybody who sees it may only read.
        name = view["DeviceID"]
        entries = ask(own_lund, "GET", f"/targets/{name}")["access"]
        ask(own_lund, "PUT", f"/targets/{name}/access", {"access": [{**entry, "read_only": True} for entry in entries]})
        [changed] = told(("Modification", "ProtocolControllerForUnit"))
        assert (changed["PreviousInstance"]["DeviceAccess"], changed["SourceInstance"]["DeviceAccess"]) == (2, 3)

        # Or it is the disk that nobody may write.
        ask(own_lund, "PUT", f"/targets/{name}/access", {"access": entries})
        told(("Modification", "ProtocolControllerForUnit"))
        ask(own_lund, "PATCH", f"/disks/{volume['ElementName']}".replace(" ", "%20"), {"read_only": True})
        [changed] = told(("Modification", "ProtocolControllerForUnit"))
        assert (changed["PreviousInstance"]["DeviceAccess"], changed["SourceInstance"]["DeviceAccess"]) == (2, 3)

        # Another initiator sees it there, too: that is no other view.
        client.expose(InitiatorPortIDs=[b], ProtocolControllers=[view])
        value, _ = client.call(masking, "DetachDevice", ProtocolController=view, Device=volume.path)
        assert value == 0
        heard = told(*[("Deletion", "ProtocolControllerForUnit")])
        assert heard[0]["SourceInstance"]["Dependent"]["DeviceID"] == volume["DeviceID"]
        assert client.call(masking, "DeleteProtocolController", ProtocolController=view)[0] == 0
        told(("Deletion", "SCSIProtocolController"))
        assert ear.numbers == list(range(len(ear.numbers))) and ear.nothing()


def test_a_snapshot_that_is_exposed_is_the_unit_that_is_told_of(own_lund):
    client = Client(own_lund.server)
    volume = client.make_disk("source")
    masking = "CIM_ControllerConfigurationService"
    value, output = client.call("CIM_ReplicationService", "CreateElementReplica", ElementName="moment",
                                SyncType=pywbem.Uint16(7), SourceElement=volume.path)
    assert value == 4096 and client.wait(output["Job"])["JobState"] == 7
    [replica] = [it for it in client.wbem.EnumerateInstances("CIM_StorageVolume") if it["Usage"] == 8]
    with Ear() as ear, subscriptions(own_lund.server) as manager:
        manager.subscribe(ear.port, ABOUT.format("CIM_ProtocolControllerForUnit"))
        value, output = client.call(masking, "ExposePaths", LUNames=[replica["Name"]],
                                    InitiatorPortIDs=["iqn.2026-01.example:a"])
        assert value == 4096 and client.wait(output["Job"])["JobState"] == 7
        link = ear.next()
        assert link.classname == "CIM_InstCreation"
        view = link["SourceInstance"]["Antecedent"]
        assert link["SourceInstance"]["Dependent"]["DeviceID"] == replica["DeviceID"]
        value, output = client.call(masking, "HidePaths", LUNames=[replica["Name"]], ProtocolControllers=[view])
        assert value == 4096 and client.wait(output["Job"])["JobState"] == 7
        link = ear.next()
        assert link.classname == "CIM_InstDeletion"
        assert link["SourceInstance"]["Dependent"]["DeviceID"] == replica["DeviceID"]


def test_pools_and_changes_of_volumes_are_told_of(own_lund, tmp_path):
    client = Client(own_lund.server)
    volume = client.make_disk("grows", 8 * MIB)
    with Ear() as ear, subscriptions(own_lund.server) as manager:
        manager.subscribe(ear.port, VOLUMES, ABOUT.format("CIM_StoragePool"))

        def change(kind):
            told = ear.next()
            assert told.classname == f"CIM_Inst{kind}"
            return told.get("PreviousInstance"), told["SourceInstance"]

        value, output = client.wbem.InvokeMethod(
            "CreateOrModifyElementFromStoragePool", client.service, TheElement=volume.path,
            ElementType=pywbem.Uint16(2), Size=pywbem.Uint64(16 * MIB))
        assert value == 4096 and client.wait(output["Job"])["JobState"] == 7
        before, after = change("Modification")
        assert after["NumberOfBlocks"] == 2 * before["NumberOfBlocks"]
        assert after["DeviceID"] == volume["DeviceID"]

        directory = tmp_path.resolve() / "pool"
        directory.mkdir()
        ask(own_lund, "POST", "/pools", {"name": "fast", "directory": str(directory), "soft_thresholds": []})
        _, pool = change("Creation")
        [known] = [it for it in client.wbem.EnumerateInstances("CIM_StoragePool") if it["PoolID"] == "fast"]
        said = {name: value for name, value in pool.items() if value is not None}  # nothing of the file system
        assert "Description" in said and said == {name: known[name] for name in said}
        ask(own_lund, "PATCH", "/pools/fast", {"reserve": "1MiB"})
        assert change("Modification")[1]["InstanceID"] == pool["InstanceID"]
        ask(own_lund, "DELETE", "/pools/fast")
        assert change("Deletion")[1]["InstanceID"] == pool["InstanceID"]

        # The first error makes the disk degraded; a record that is removed makes it healthy.
        ask(own_lund, "POST", "/targets", {"name": "t"})
        ask(own_lund, "POST", "/targets/t/luns", {"disk": "grows"})
        with open(client.wbem.GetInstance(volume.path)["MSDevicePath"], "r+b") as image:
            image.truncate(0)
        url = f"iscsi://{own_lund.portal}/iqn.2026-01.io.lund:t/0"
        deadline = time.monotonic() + PATIENCE
        while ear.nothing():
            assert time.monotonic() < deadline, "no change"
            subprocess.run(["iscsi-inq", url], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
        before, after = change("Modification")
        assert (before["OperationalStatus"], after["OperationalStatus"]) == ([2], [3])
        assert (before["HealthState"], after["HealthState"]) == (5, 10)
        for fault in ask(own_lund, "GET", "/jobs?kind=data-path-fault"):
            ask(own_lund, "DELETE", f"/jobs/{fault['id']}")
        before, after = change("Modification")
        assert (before["OperationalStatus"], after["OperationalStatus"]) == ([3], [2])


def test_a_pool_that_goes_and_comes_back_is_told_with_what_is_in_it(own_lund, tmp_path):
    client = Client(own_lund.server)
    directory = tmp_path.resolve() / "pool"
    away = tmp_path.resolve() / "away"
    directory.mkdir()
    elsewhere = client.make_disk("elsewhere")
    ask(own_lund, "POST", "/pools", {"name": "second", "directory": str(directory), "soft_thresholds": []})
    [pool] = [it for it in client.wbem.EnumerateInstances("CIM_StoragePool") if it["PoolID"] == "second"]
    value, output = client.wbem.InvokeMethod(
        "CreateOrModifyElementFromStoragePool", client.service, ElementName="in it", InPool=pool.path,
        ElementType=pywbem.Uint16(5), Size=pywbem.Uint64(MIB))
    assert value == 4096 and client.wait(output["Job"])["JobState"] == 7
    [volume] = client.volumes(output["Job"])
    value, output = client.call("CIM_ReplicationService", "CreateElementReplica", ElementName="moment",
                                SyncType=pywbem.Uint16(7), SourceElement=volume.path)
    assert value == 4096 and client.wait(output["Job"])["JobState"] == 7
    [replica] = [it for it in client.wbem.EnumerateInstances("CIM_StorageVolume") if it["Usage"] == 8]
    system = client.wbem.GetInstance(client.only("CIM_ComputerSystem"))
    good, degraded, error = ([2], 5), ([3], 10), ([6], 25)

    def state(instance):
        return instance["OperationalStatus"], instance["HealthState"]

    def states():
        assert state(client.wbem.GetInstance(elsewhere.path)) == good
        return [state(client.wbem.GetInstance(it.path)) for it in (system, pool, volume, replica)]

    assert states() == [good] * 4
    with Ear() as ear, subscriptions(own_lund.server) as manager:
        manager.subscribe(ear.port, VOLUMES, ABOUT.format("CIM_StoragePool"),
                          ABOUT.format("CIM_ComputerSystem"), "SELECT * FROM CIM_AlertIndication")

        def told(before, after):
            for it, previous, current in zip((system, pool, volume, replica), before, after, strict=True):
                heard = ear.next()
                assert heard.classname == "CIM_InstModification"
                key = "Name" if it is system else "InstanceID" if it is pool else "DeviceID"
                assert heard["SourceInstance"][key] == it[key]
                assert state(heard["PreviousInstance"]) == previous
                assert state(heard["SourceInstance"]) == current
            assert states() == after
            return heard["SourceInstance"]

        well, ill = [good] * 4, [degraded, error, error, error]
        directory.rename(away)
        last = told(well, ill)
        assert last["StatusDescriptions"] == client.wbem.GetInstance(pool.path)["StatusDescriptions"]
        alert = ear.next()
        assert alert.classname == "CIM_AlertIndication" and alert["AlertType"] == 5
        assert str(pool["InstanceID"]) in alert["AlertingManagedElement"]
        assert str(directory) in alert["Message"]
        # A start finds what it knows already, and the next one that it is over.
        own_lund.restart()
        assert states() == ill
        assert own_lund.stop() == 0
        away.rename(directory)
        own_lund.again = True
        own_lund.start()
        told(ill, well)
        assert ear.nothing() and len(ear.numbers) == 9
