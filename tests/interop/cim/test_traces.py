"""Traces: what a collector gets is parsed with OpenTelemetry's own messages, which know no other key."""

import base64
import http.server
import json
import queue
import socket
import subprocess
import threading
import time
import urllib.request

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest, ExportTraceServiceResponse)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from client import MIB
from lund import Lund

IDS = {"traceId": 16, "spanId": 8, "parentSpanId": 8}


def proto(value):
    """OTLP has identifiers in hexadecimal digits, where protobuf's own JSON has Base64."""
    if isinstance(value, list):
        return [proto(item) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {}
    for key, item in value.items():
        if key in IDS:
            assert item == item.lower() and len(bytes.fromhex(item)) == IDS[key]
            item = base64.b64encode(bytes.fromhex(item)).decode()
        changed[key] = proto(item)
    return changed


def attributes(holder):
    of = {it.key: getattr(it.value, it.value.WhichOneof("value")) for it in holder.attributes}
    assert len(of) == len(holder.attributes), "a key stands there twice"
    return of


class Collector:
    """Takes what it is sent, but answers what it is told to first."""

    def __init__(self, port=0, answers=()):
        self.requests = queue.Queue()
        self.spans = []
        todo = queue.Queue()
        for answer in answers:
            todo.put(answer)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(handler):  # noqa: N805
                body = handler.rfile.read(int(handler.headers["Content-Length"]))
                status = 200 if todo.empty() else todo.get()
                self.requests.put((status, handler.path, handler.headers, body))
                answer = json_format.MessageToJson(ExportTraceServiceResponse()).encode()
                handler.send_response(status)
                handler.send_header("Content-Type", "application/json")
                if status != 200:
                    handler.send_header("Retry-After", "0")
                handler.send_header("Content-Length", str(len(answer)))
                handler.end_headers()
                handler.wfile.write(answer)

            def log_message(handler, *_):  # noqa: N805
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def take(self, request):
        """The spans of a request that was answered 200."""
        status, path, headers, body = request
        assert (path, headers["Content-Type"]) == ("/otlp/v1/traces", "application/json")
        assert headers["Authorization"] == "Basic bHVuZA==" and headers["X-Scope"] == "storage"
        message = json_format.ParseDict(proto(json.loads(body)), ExportTraceServiceRequest())
        [resource] = message.resource_spans
        of = attributes(resource.resource)
        assert (of["service.name"], of["service.version"]) == ("san-1", "0.1.0")
        assert of["service.instance.id"] and of["host.name"]
        [scope] = resource.scope_spans
        assert scope.scope.name == "lund"
        if status == 200:
            self.spans += scope.spans
        return scope.spans

    def until(self, found, patience=60):
        """Takes requests until `found` finds something among all spans."""
        deadline = time.monotonic() + patience
        while not (result := found(self.spans)):
            self.take(self.requests.get(timeout=max(0, deadline - time.monotonic())))
        return result

    def rest(self):
        while not self.requests.empty():
            self.take(self.requests.get())
        assert len({span.span_id for span in self.spans}) == len(self.spans), "one was told twice"


def configuration(directory, port, more=""):
    headers = directory / "headers"
    headers.write_text("Authorization: Basic bHVuZA==\n")
    headers.chmod(0o600)
    path = directory / "lund.toml"
    path.write_text(f"""{more}
[telemetry]
endpoint = "http://127.0.0.1:{port}/otlp"
service_name = "san-1"
headers = {{ X-Scope = "storage" }}
headers_file = "{headers}"
""")
    return path


def ask(lund, method, path, body=None, headers=()):
    request = urllib.request.Request(f"{lund.server}/api/v1{path}", json.dumps(body).encode() if body else None,
                                     {"Content-Type": "application/json", **dict(headers)}, method=method)
    with urllib.request.urlopen(request, timeout=90) as answer:
        return json.loads(answer.read())


def ended(lund, job):
    return ask(lund, "GET", f"/jobs/{job['id']}?wait_seconds=60")


def figure(lund, name):
    with urllib.request.urlopen(f"{lund.server}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith(name)}


def of_trace(trace):
    return lambda spans: [it for it in spans if it.trace_id.hex() == trace]


def test_jobs_and_requests_reach_a_collector_that_was_away(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with Lund("--config", configuration(tmp_path, port)) as lund:
        parent = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
        job = ask(lund, "POST", "/disks", {"name": "d", "size_bytes": MIB},
                  {"traceparent": "-".join(["00", *parent, "01"])})
        assert ended(lund, job)["state"] == "Completed"
        job_of_copy = ask(lund, "POST", "/disks/d/clone", {"name": "copy"})
        assert ended(lund, job_of_copy)["state"] == "Completed"
        failed = ended(lund, ask(lund, "POST", "/disks", {"name": "large", "size_bytes": 1 << 50}))
        assert failed["state"] == "Exception"
        deadline = time.monotonic() + 60
        while figure(lund, "lund_trace_failed_requests")["lund_trace_failed_requests_total"] < 1:
            assert time.monotonic() < deadline
        with Collector(port, answers=[503, 429]) as collector:
            whole = collector.until(lambda spans: [it for it in spans if it.name == "job create-disk"
                                                   and it.trace_id.hex() == failed["trace"]])
            collector.until(lambda spans: len(of_trace(job_of_copy["trace"])(spans)) > 3)

            [span] = whole
            of = attributes(span)
            assert of["lund.job.id"] == failed["id"] and of["lund.job.state"] == "Exception"
            assert span.status.code == Status.STATUS_CODE_ERROR
            [error] = [event for event in span.events if event.name == "exception"]
            assert attributes(error)["exception.type"] == failed["errors"][0]["message_id"]
            assert attributes(error)["exception.message"] == span.status.message
            assert 0 < span.start_time_unix_nano <= error.time_unix_nano <= span.end_time_unix_nano

            # The job, its worker, and the steps of its plan, each inside of the other.
            spans = of_trace(job_of_copy["trace"])(collector.spans)
            [root] = [it for it in spans if not it.parent_span_id]
            [worker] = [it for it in spans if it.parent_span_id == root.span_id]
            steps = [it for it in spans if it.parent_span_id == worker.span_id]
            assert (root.name, worker.name, {it.name for it in steps}) == ("job clone-disk", "job", {"step"})
            assert len(spans) == 2 + len(steps)
            steps.sort(key=lambda it: attributes(it)["index"])
            assert attributes(steps[-1])["action"] == "complete" and len(steps) > 2
            assert any(event.name == "the job runs" for event in worker.events)
            assert root.status.code == Status.STATUS_CODE_UNSET

            [request] = collector.until(of_trace(parent[0]))
            assert (request.name, request.kind) == ("POST /api/v1/disks", Span.SPAN_KIND_SERVER)
            assert request.parent_span_id.hex() == parent[1]
            of = attributes(request)
            assert (of["http.request.method"], of["http.response.status_code"]) == ("POST", 202)
            [link] = request.links
            assert link.trace_id.hex() == job["trace"]
            # What waits at the end is sent.
            last = ask(lund, "POST", "/disks", {"name": "last", "size_bytes": MIB})
            ended(lund, last)
            assert lund.stop() == 0
            collector.rest()
            assert of_trace(last["trace"])(collector.spans)
            assert not [it for it in collector.spans if "/metrics" in it.name]


def test_a_collector_that_says_nothing_keeps_nobody(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with Lund("--config", configuration(tmp_path, silent.getsockname()[1])) as lund:
            assert ended(lund, ask(lund, "POST", "/disks", {"name": "d", "size_bytes": MIB}))["state"] == "Completed"
            silent.settimeout(60)
            connection, _ = silent.accept()
            assert connection.recv(1)
            assert ended(lund, ask(lund, "POST", "/disks", {"name": "e", "size_bytes": MIB}))["state"] == "Completed"
            assert lund.stop() == 0
            connection.close()


def test_slow_commands_are_spans(tmp_path):
    with Collector() as collector:
        config = configuration(tmp_path, collector.port, "[iscsi]\nslow_command_milliseconds = 1\n")
        with Lund("--demo", "--demo-size", "64MiB", "--config", config) as lund:
            script = "write 0 60M\nflush\nread 0 64k\nquit\n"
            try:
                subprocess.run(["qemu-io", "-f", "raw", lund.url], input=script, text=True, check=True, timeout=120,
                               capture_output=True)
            except (FileNotFoundError, subprocess.CalledProcessError):
                pytest.skip("qemu-io with its iSCSI module is not installed")
            assert lund.stop() == 0
            log = [json.loads(line) for line in lund.log.read_text().splitlines()]
        collector.rest()
        slow = {line["trace"].replace("-", "").zfill(16): line for line in log if line["message"] == "a command was slow"}
        spans = {it.trace_id.hex()[16:]: it for it in collector.spans if it.name == "SCSI command"}
        assert spans.keys() == slow.keys()
        for key, span in spans.items():
            of = attributes(span)
            assert (of["trace"], of["unit"], of["initiator"]) == tuple(slow[key][it] for it in ("trace", "unit", "initiator"))
            assert span.end_time_unix_nano - span.start_time_unix_nano == slow[key]["milliseconds"] * 1_000_000
