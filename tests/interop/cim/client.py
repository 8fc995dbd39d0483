"""What the tests do with pywbem."""

import time

import pywbem

NAMESPACE = "root/cimv2/storage/iscsitarget"
TERMINAL = (7, 8, 9, 10)
MIB = 1 << 20


class Client:
    def __init__(self, server):
        self.wbem = pywbem.WBEMConnection(server, default_namespace=NAMESPACE, timeout=60)

    def only(self, class_name):
        """Path of the one instance of a class."""
        paths = self.wbem.EnumerateInstanceNames(class_name)
        assert len(paths) == 1, paths
        return paths[0]

    @property
    def service(self):
        return self.only("CIM_StorageConfigurationService")

    @property
    def pool(self):
        """The pool that disks are made in."""
        [pool] = [p.path for p in self.wbem.EnumerateInstances("CIM_StoragePool") if not p["Primordial"]]
        return pool

    def create(self, name, size=MIB, kind=5):
        """Starts a creation; the path of its job."""
        value, output = self.wbem.InvokeMethod(
            "CreateOrModifyElementFromStoragePool", self.service, ElementName=name,
            ElementType=pywbem.Uint16(kind), Size=pywbem.Uint64(size), InPool=self.pool)
        assert value == 4096, (value, output)
        assert output["Size"] == size
        assert "TheElement" not in output
        return output["Job"]

    @property
    def masking(self):
        return self.only("CIM_ControllerConfigurationService")

    def call(self, service, method, **parameters):
        """A method of the one service of a class."""
        return self.wbem.InvokeMethod(method, self.only(service), **parameters)

    def expose(self, **parameters):
        """ExposePaths that must succeed; the path of the view."""
        value, output = self.wbem.InvokeMethod("ExposePaths", self.masking, **parameters)
        assert value == 0, (value, output)
        [view] = output["ProtocolControllers"]
        return view

    def give_back(self, volume):
        """Starts a deletion; the path of its job."""
        value, output = self.wbem.InvokeMethod("ReturnToStoragePool", self.service,
                                               TheElement=volume)
        assert value == 4096, (value, output)
        return output["Job"]

    def until(self, holds, timeout=60):
        """Waits for what comes about by itself."""
        deadline = time.monotonic() + timeout
        while not holds():
            assert time.monotonic() < deadline, "it does not come about"
            time.sleep(0.05)

    def job(self, path):
        return self.wbem.GetInstance(path, LocalOnly=False)

    def wait(self, path, timeout=60):
        """Polls a job until it has ended; the job."""
        deadline = time.monotonic() + timeout
        percent = 0
        while True:
            job = self.job(path)
            assert job["PercentComplete"] >= percent, "PercentComplete fell"
            percent = job["PercentComplete"]
            if job["JobState"] in TERMINAL:
                assert percent == 100
                return job
            assert time.monotonic() < deadline, f"not ended: {job.tomof()}"
            time.sleep(0.05)

    def request_state(self, path, state, **more):
        value, _ = self.wbem.InvokeMethod("RequestStateChange", path,
                                          RequestedState=pywbem.Uint16(state), **more)
        return value

    def error(self, path):
        """GetError, held against GetErrors and the job's own properties."""
        value, output = self.wbem.InvokeMethod("GetError", path)
        assert value == 0
        error = output.get("Error")
        value, output = self.wbem.InvokeMethod("GetErrors", path)
        assert value == 0
        errors = output.get("Errors") or []
        job = self.job(path)
        if error is None:
            assert errors == []
            assert job["ErrorCode"] == 0
        else:
            assert error.classname == "CIM_Error"
            assert errors[0] == error
            assert job["ErrorCode"] != 0
            assert job["ErrorDescription"] == error["Message"]
        return error

    def volumes(self, job):
        return self.wbem.Associators(job, AssocClass="CIM_AffectedJobElement",
                                     ResultClass="CIM_StorageVolume")

    def make_disk(self, name, size=MIB, kind=5):
        """A disk, made; its instance."""
        path = self.create(name, size, kind)
        assert self.wait(path)["JobState"] == 7
        [volume] = self.volumes(path)
        return volume

    def catch(self, prefix, act):
        """Does something to a job before its end; the job, and all jobs that were made for it.

        The job is the last of a queue; should it be too fast nevertheless, another one is made.
        """
        free = self.wbem.GetInstance(self.pool)["RemainingManagedSpace"]
        size = min(free // 32, 4096 * MIB) // MIB * MIB
        for attempt in range(20):
            jobs = [self.create(f"{prefix}-{attempt}-{n}", size, kind=7) for n in range(12)]
            if act(jobs[-1]) in (0, 4096):
                return jobs[-1], jobs
            self.discard(jobs)
        raise AssertionError("every job ended before anything could be done to it")

    def kill(self, path, delete=False):
        return self.wbem.InvokeMethod("KillJob", path, DeleteOnKill=delete)[0]

    def discard(self, jobs):
        """Ends jobs and removes what they made."""
        for job in jobs:
            self.request_state(job, 4)
        for job in jobs:
            self.wait(job)
            for volume in self.volumes(job):
                self.wait(self.give_back(volume.path))
