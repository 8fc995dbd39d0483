"""The quick start for pywbem does what it says."""

import pathlib
import re

QUICKSTART = pathlib.Path(__file__).resolve().parents[3] / "docs" / "quickstart.md"


def test_the_quick_start_for_pywbem_runs(lund, client):
    section = QUICKSTART.read_text().split("\n## pywbem", 1)[1].split("\n## ", 1)[0]
    [program] = re.findall(r"```python\n(.*?)```", section, re.S)
    assert "http://127.0.0.1:5988" in program
    done = {}
    # A gibibyte is thin.
    exec(program.replace("http://127.0.0.1:5988", lund.server).replace("time.sleep(1)", "time.sleep(0.05)"), done)
    assert (done["code"], done["out"].get("Errors")) == (0, None)
    assert "fromcim" in [it["ElementName"] for it in client.wbem.EnumerateInstances("CIM_StorageVolume")]
