"""CIM-XML with passwords, over TLS: pywbem and wbemcli, and a client certificate."""

import os
import shutil
import subprocess

import pytest
import pywbem

from client import NAMESPACE
from lund import Lund, binary

# They would go before the file that a client names.
for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
    os.environ.pop(name, None)

PASSWORD = "correct horse battery"


def openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An authority, and the certificate of the user `viewer` that it has signed."""
    place = tmp_path_factory.mktemp("tls")
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", 2,
            "-subj", "/CN=clients", "-keyout", place / "ca-key.pem", "-out", place / "ca.pem")
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", "/CN=viewer", "-keyout", place / "key.pem", "-out", place / "request.pem")
    (place / "extensions").write_text("extendedKeyUsage=clientAuth\n")
    openssl("x509", "-req", "-extfile", place / "extensions", "-in", place / "request.pem", "-CA", place / "ca.pem", "-CAkey", place / "ca-key.pem",
            "-CAcreateserial", "-days", 2, "-out", place / "certificate.pem")
    return place


@pytest.fixture(scope="module")
def secure(place):
    """A daemon with TLS, a viewer and an administrator."""
    config = place / "lund.toml"
    config.write_text(f"[management.tls]\nlisten = ['127.0.0.1:0']\nclient_ca = '{place / 'ca.pem'}'\n")
    with Lund("--config", config) as lund:
        for name in ("viewer", "administrator"):
            subprocess.run([binary("lunctl"), "--server", lund.server, "user", "add", name, "--role", name,
                            "--password-file", "-"], input=PASSWORD, text=True, check=True, timeout=60)
        lund.ca = lund.data_dir / "data" / "tls-certificate.pem"
        yield lund


def connect(secure, url=None, **more):
    return pywbem.WBEMConnection(url or secure.secure, default_namespace=NAMESPACE, timeout=60,
                                 ca_certs=str(secure.ca), **more)


def create(wbem):
    [service] = wbem.EnumerateInstanceNames("CIM_StorageConfigurationService")
    return wbem.InvokeMethod("CreateOrModifyElementFromStoragePool", service, ElementName="tls",
                             ElementType=pywbem.Uint16(5), Size=pywbem.Uint64(1 << 20))


def test_a_password_over_tls(secure):
    wbem = connect(secure, creds=("administrator", PASSWORD))
    value, output = create(wbem)
    assert value == 4096
    assert wbem.GetInstance(output["Job"])["Owner"] == "administrator"


def test_a_viewer_looks_and_changes_nothing(secure):
    wbem = connect(secure, creds=("viewer", PASSWORD))
    assert len(wbem.EnumerateInstances("CIM_StoragePool")) == 2
    with pytest.raises(pywbem.CIMError) as refused:
        create(wbem)
    assert refused.value.status_code == pywbem.CIM_ERR_ACCESS_DENIED


def test_without_a_password_or_with_a_wrong_one_nobody_comes_in(secure):
    for creds in (None, ("administrator", "not the password"), ("nobody", PASSWORD)):
        for url in (secure.secure, secure.server):
            with pytest.raises(pywbem.AuthError):
                connect(secure, url, creds=creds).EnumerateInstances("CIM_StoragePool")


def test_a_certificate_that_is_not_trusted_is_refused(secure):
    wbem = pywbem.WBEMConnection(secure.secure, creds=("viewer", PASSWORD), default_namespace=NAMESPACE)
    with pytest.raises(pywbem.ConnectionError):
        wbem.EnumerateInstances("CIM_StoragePool")


def test_a_client_certificate_says_who_it_is(secure, place):
    wbem = connect(secure, x509={"cert_file": str(place / "certificate.pem"), "key_file": str(place / "key.pem")})
    assert len(wbem.EnumerateInstances("CIM_StoragePool")) == 2
    with pytest.raises(pywbem.CIMError) as refused:
        create(wbem)
    assert refused.value.status_code == pywbem.CIM_ERR_ACCESS_DENIED


@pytest.mark.skipif(not shutil.which("wbemcli"), reason="wbemcli is not installed")
def test_wbemcli_over_tls(secure):
    def run(password):
        base = secure.secure.replace("https://", f"https://viewer:{password}@")
        words = ["wbemcli", "-cacert", secure.ca, "ein", f"{base}/{NAMESPACE}:CIM_StoragePool"]
        return subprocess.run(words, capture_output=True, text=True, timeout=60)

    done = run("correct%20horse%20battery")
    if "InstanceID" not in done.stdout:  # Versions differ in whether they undo percent codes.
        done = run(PASSWORD)
    assert "InstanceID" in done.stdout, done
    assert "InstanceID" not in run("wrong").stdout
