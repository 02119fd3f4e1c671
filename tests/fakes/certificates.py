"""Certificates of a test."""

import subprocess
from pathlib import Path


def openssl(folder: Path, *arguments: str) -> None:
    """Run openssl in a folder."""
    subprocess.run(["/usr/bin/openssl", *arguments], cwd=folder, check=True, capture_output=True)


def certify(folder: Path, name: str, signer: str = "") -> None:
    """Make a key and a certificate, signed by *signer* or self-signed."""
    signed = ("-CA", f"{signer}.crt", "-CAkey", f"{signer}.key") if signer else ()
    openssl(
        folder,
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-keyout", f"{name}.key", "-out", f"{name}.crt", "-days", "2", "-subj", f"/CN={name}"),
        *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", *signed),
    )
