"""schemathesis sends what the OpenAPI document allows, and what it does not, to every operation:
no answer may be a server error, or one that the document does not tell of."""

import json
import os
import pathlib
import subprocess
import sys
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from lund import Lund  # noqa: E402

# So many requests of each kind an operation; the whole in so many seconds.
EXAMPLES = os.environ.get("LUND_REST_EXAMPLES", "25")
SECONDS = os.environ.get("LUND_REST_SECONDS", "45")
CHECKS = ["not_a_server_error", "status_code_conformance", "content_type_conformance",
          "response_headers_conformance", "response_schema_conformance"]
# Wrong passwords make the daemon shut this address out for a while, as they should.
# Events have no end.
EXCLUDED = ["postSession", "putSessionPassword", "getEvents"]


def ask(server, method, path, body=None, token=None):
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{server}/api/v1{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=90) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def main():
    with Lund() as lund:
        server = lund.server
        # A token first: one that is made on the way would shut the tests out.
        token = ask(server, "POST", "/tokens",
                    {"name": "test", "role": "administrator", "expires": None})["secret"]
        ask(server, "POST", "/users",
            {"name": "root", "role": "administrator", "password": "correct horse battery"})
        job = ask(server, "POST", "/disks", {"name": "d", "size_bytes": 1 << 20}, token)
        job = ask(server, "GET", f"/jobs/{job['id']}?wait_seconds=60", None, token)
        assert job["state"] == "Completed", job
        ask(server, "POST", "/targets", {"name": "t"}, token)
        ask(server, "POST", "/targets/t/luns", {"disk": "d"}, token)
        excluded = [word for name in EXCLUDED for word in ("--exclude-operation-id", name)]
        program = pathlib.Path(sys.executable).with_name("schemathesis")
        counts = lund.data_dir / "requests.json"
        environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent),
                       "SCHEMATHESIS_HOOKS": "counting", "LUND_REST_COUNTS": str(counts)}
        status = subprocess.run([
            program, "run", f"{server}/api/v1/openapi.json",
            "--header", f"Authorization: Bearer {token}", "--checks", ",".join(CHECKS),
            "--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES,
            "--max-time", SECONDS, "--request-timeout", "70", "--continue-on-failure", "--generation-deterministic", "--no-shrink",
            "--suppress-health-check", "all", "--warnings", "off", "--no-color", *excluded,
        ], check=False, cwd=lund.data_dir, env=environment).returncode
        sent = json.loads(counts.read_text())
        few = {label: count for label, count in sent.items() if count < int(EXAMPLES)}
        print(f"{len(sent)} operations, {sum(sent.values())} requests; fewer than {EXAMPLES} to {few}")
        # It goes on.
        assert ask(server, "GET", "/status", None, token)["alerts"] == []
        assert ask(server, "GET", "/openapi.json", None, token)["openapi"] == "3.1.0"
    return status


if __name__ == "__main__":
    sys.exit(main())
