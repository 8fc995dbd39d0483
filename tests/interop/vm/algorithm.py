"""Prints the hash function with which the one session that is there was authenticated."""

import json
import subprocess
import sys

lunctl, server = sys.argv[1:]


def ask(*words):
    return json.loads(subprocess.run([lunctl, "--server", server, "--json", *words], check=True,
                                     capture_output=True, text=True, timeout=60).stdout)


[session] = ask("session", "list")
shown = ask("session", "show", str(session["tsih"]))["authentication"]
print(shown["algorithm"], "mutual" if shown["mutual"] else "one-way")
