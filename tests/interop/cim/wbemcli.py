#!/usr/bin/env python3
"""Debian's wbemcli (package sblim-wbemcli), which parses CIM-XML more strictly than most, does
everything that it can against the daemon.

    wbemcli.py [--url http://host:port]     without it a daemon is started"""

import argparse
import pathlib
import re
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from lund import Lund  # noqa: E402

NAMESPACE = "root/cimv2/storage/iscsitarget"
MIB = 1 << 20


class Wbemcli:
    def __init__(self, url):
        self.base = f"{url}/{NAMESPACE}"

    def run(self, operation, path, *arguments, options=(), fails=None):
        """Lines of the answer. `fails` is what an expected refusal says."""
        target = path if path.startswith("http://") else f"http://{path}"
        words = ["wbemcli", operation, *options, target, *arguments]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60)
        refused = "wbemcli:" in done.stderr or done.returncode != 0
        if refused != (fails is not None) or (fails or "") not in done.stderr:
            sys.exit(f"{' '.join(words)}\n{done.stdout}{done.stderr}status {done.returncode}; "
                     f"expected {fails or 'no refusal'}")
        return done.stdout.splitlines()

    def of_class(self, operation, name, *arguments, **more):
        return self.run(operation, f"{self.base}:{name}", *arguments, **more)

    def only(self, name):
        """Path of the one instance of a class."""
        [path] = self.of_class("ein", name)
        return path

    def pool(self):
        """Path of the pool that disks are made in."""
        [path] = [path for path in self.of_class("ein", "CIM_StoragePool")
                  if "primordial" not in path]
        return path

    def property(self, path, name):
        """One property, as gi shows it."""
        [line] = self.run("gi", path, name)
        found = re.search(rf"[ ,]{name}=(\"(?:[^\"\\]|\\.)*\"|[^,]*)", line)
        if not found:
            sys.exit(f"{name} is not in {line}")
        return found.group(1).strip('"')

    def call(self, path, method, **more):
        """Return value, and the whole line."""
        lines = self.run("cm", path, method, **more)
        text = "\n".join(lines)
        value = re.search(rf"{method.split('.')[0]}: (\d+)", text)
        if not value:
            sys.exit(f"{method}: no return value in {text}")
        return int(value.group(1)), text

    def started(self, path, method):
        """Path of the job that a method started."""
        value, text = self.call(path, method)
        identifier = re.search(r'InstanceID="(MSISCSITARGET:[0-9a-f-]{36})"', text)
        if value != 4096 or not identifier:
            sys.exit(f"{method}: {text}")
        host = self.base.removeprefix("http://")
        return f'{host}:MSISCSITARGET_ConcreteJob.InstanceID="{identifier.group(1)}"'

    def wait(self, job):
        """The state in which a job ends."""
        deadline = time.monotonic() + 60
        while self.property(job, "JobState") not in ("7", "8", "9", "10"):
            if time.monotonic() > deadline:
                sys.exit(f"{job} does not end")
            time.sleep(0.1)
        return int(self.property(job, "JobState"))


def expect(what, found, wanted):
    if found != wanted:
        sys.exit(f"{what}: {found!r}, not {wanted!r}")


def classes(cli):
    names = [line.rpartition(":")[2].split()[0] for line in cli.of_class("ecn", "CIM_Job")]
    expect("subclasses", "CIM_ConcreteJob" in names, True)
    declared = "".join(cli.of_class("ec", "CIM_ConcreteJob"))
    expect("ec", "MSISCSITARGET_ConcreteJob" in declared and "PercentComplete" in declared, True)
    [service] = cli.of_class("ei", "CIM_StorageConfigurationService")
    expect("ei", 'ElementName="Storage configuration"' in service, True)
    for name in ("MSISCSITARGET_ConcreteJob", "MSISCSITARGET_StorageVolume", "CIM_Error"):
        expect(name, len(cli.of_class("gc", name)), 1)
        expect(name, name in "".join(cli.of_class("gcd", name)), True)
    cli.of_class("gc", "CIM_Nothing", fails="CIM_ERR_NOT_FOUND")
    cli.of_class("ei", "CIM_Nothing", fails="CIM_ERR_INVALID_CLASS")


def disks(cli):
    """Makes a disk and gives it back; its path leads through the associations."""
    service, pool = cli.only("CIM_StorageConfigurationService"), cli.pool()
    method = "CreateOrModifyElementFromStoragePool"
    parameters = f"ElementName=wbemcli,ElementType=5,Size={MIB},InPool={pool}"
    job = cli.started(service, f"{method}.{parameters}")
    expect("JobState", cli.wait(job), 7)
    value, text = cli.call(job, "GetError")
    expect("GetError", (value, "Error" in text.replace("GetError", "")), (0, False))
    expect("GetErrors", cli.call(job, "GetErrors")[0], 0)

    volumes = cli.run("ain", job, options=("-ac", "CIM_AffectedJobElement",
                                           "-arc", "CIM_StorageVolume"))
    expect("volumes of the job", len(volumes), 1)
    expect("ElementName", cli.property(volumes[0], "ElementName"), "wbemcli")
    expect("gp", any("2048" in line for line in cli.run("gp", volumes[0], "NumberOfBlocks")), True)
    expect("ai", len(cli.run("ai", volumes[0], options=("-arc", "CIM_StoragePool"))), 1)
    masked(cli, cli.property(volumes[0], "Name"))
    for operation in ("ri", "rin"):
        links = cli.run(operation, volumes[0], options=("-arc", "CIM_SystemDevice"))
        expect(operation, len(links), 1)

    cli.run("cm", service, f"{method}.{parameters}", fails="CIM_ERR_ALREADY_EXISTS")
    cli.run("cm", service, f"{method}.ElementName=x,ElementType=5,Size=many",
            fails="CIM_ERR_INVALID_PARAMETER")
    expect("odd size", cli.call(service, f"{method}.ElementName=x,ElementType=5,Size=1000")[0],
           4097)
    job = cli.started(service, f"ReturnToStoragePool.TheElement={volumes[0]}")
    expect("JobState", cli.wait(job), 7)
    cli.run("gi", volumes[0], fails="CIM_ERR_NOT_FOUND")


def masked(cli, name):
    """Exposes a disk to an initiator, and hides it."""
    service = cli.only("CIM_ControllerConfigurationService")
    value, text = cli.call(service, f"ExposePaths.LUNames={name},"
                           "InitiatorPortIDs=iqn.2026-01.example:wbemcli,DeviceAccesses=2")
    expect("ExposePaths", value, 0)
    [view] = cli.of_class("ein", "CIM_SCSIProtocolController")
    expect("privileges", len(cli.run("ain", view, options=("-arc", "CIM_StorageHardwareID"))), 1)
    expect("units", len(cli.run("ain", view, options=("-ac", "CIM_ProtocolControllerForUnit"))), 1)
    expect("delete", cli.call(service, f"DeleteProtocolController.ProtocolController={view}")[0], 0)
    expect("views", cli.of_class("ein", "CIM_SCSIProtocolController"), [])


def failed_job(cli):
    """A job that fails: its error is shown, its settings are written, it is removed."""
    service = cli.only("CIM_StorageConfigurationService")
    method = "CreateOrModifyElementFromStoragePool"
    job = cli.started(service, f"{method}.ElementName=huge,ElementType=5,Size={1 << 62}")
    expect("JobState", cli.wait(job), 10)
    for name in ("GetError", "GetErrors"):
        value, text = cli.call(job, name)
        expect(name, (value, "ISCT-STG-001" in text, "capacity" in text), (0, True, True))
    expect("terminal", cli.call(job, "RequestStateChange.RequestedState=4")[0], 4097)
    expect("terminal", cli.call(job, "KillJob.DeleteOnKill=TRUE")[0], 4)
    cli.run("mi", job, "DeleteOnCompletion=FALSE,Notify=somebody")
    expect("Notify", cli.property(job, "Notify"), "somebody")
    expect("DeleteOnCompletion", cli.property(job, "DeleteOnCompletion"), "FALSE")
    cli.run("sp", job, "Notify=nobody")
    expect("Notify", cli.property(job, "Notify"), "nobody")
    cli.run("di", job)
    cli.run("gi", job, fails="CIM_ERR_NOT_FOUND")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", help="of a running daemon, without /cimom")
    url = parser.parse_args().url

    def checks(server):
        cli = Wbemcli(server)
        for check in (classes, disks, failed_job):
            check(cli)
            print(f"wbemcli: {check.__name__} passed")

    if url:
        checks(url)
    else:
        with Lund() as lund:
            checks(lund.server)


if __name__ == "__main__":
    main()
