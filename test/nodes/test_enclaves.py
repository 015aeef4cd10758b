"""SROS 2 over a Fast DDS without its security plugins: a node that is to be secure does not run unprotected."""

from __future__ import annotations

from pathlib import Path

import pytest
from ros_helpers import PATIENCE, start_process

ENCLAVE = "/camera/pkf_filter"
FILES = ("identity_ca.cert.pem", "permissions_ca.cert.pem", "cert.pem", "key.pem", "governance.p7s", "permissions.p7s")
NODE = "import sys\nfrom pkf_filter.ros.node import main\nsys.exit(main())"


@pytest.mark.parametrize("strategy", ["Enforce", "Permissive"])
def test_a_node_that_cannot_be_secure_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str
) -> None:
    """Its enclave is there: no node of this installation that has one is heard, or hears anything."""
    enclave = tmp_path / "enclaves" / ENCLAVE.lstrip("/")
    enclave.mkdir(parents=True)
    for name in FILES:
        (enclave / name).write_text("")
    set_security(monkeypatch, tmp_path, strategy)
    process = start_process(NODE, "--enclave", ENCLAVE)
    output, _ = process.communicate(timeout=PATIENCE)
    if "security libraries" not in output and "SROS 2, which takes a Fast DDS with" not in output:
        pytest.skip("needs a Fast DDS that was built without its security plugins")
    assert process.returncode == 2 and "Traceback" not in output
    assert "cannot start: ROS_SECURITY_ENABLE asks for SROS 2" in output and "does not run unprotected" in output


def test_without_its_enclave_a_node_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_security(monkeypatch, tmp_path, "Enforce")
    process = start_process(NODE, "--enclave", ENCLAVE)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and "Traceback" not in output
    assert "cannot start: " in output and f"{ENCLAVE}' does not exist" in output


def set_security(monkeypatch: pytest.MonkeyPatch, keystore: Path, strategy: str) -> None:
    monkeypatch.setenv("ROS_SECURITY_KEYSTORE", str(keystore))
    monkeypatch.setenv("ROS_SECURITY_ENABLE", "true")
    monkeypatch.setenv("ROS_SECURITY_STRATEGY", strategy)
