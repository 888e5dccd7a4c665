"""Addresses, ports and certificates."""

from __future__ import annotations

import datetime
import socket
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dcengine.client import Client
from dcengine.errors import EngineUnreachable, InsecureAddress, InvalidOption, PortInUse
from dcengine.server import application, listen
from dcengine.server.listening import is_loopback
from tests.unit.engine_double import EngineDouble, Tokens


def engine() -> web.Application:
    return application(EngineDouble(), access=Tokens())


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[str, str]:
    """Return the files of a certificate that nobody trusts, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    built = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1)).sign(
        key, hashes.SHA256()
    )
    pem = serialization.Encoding.PEM
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    files[0].write_bytes(built.public_bytes(pem))
    files[1].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return str(files[0]), str(files[1])


async def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUse, match=str(port)):
            await listen(engine(), "127.0.0.1", port)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "jobs.example.org"])
async def test_an_open_address_needs_tls_or_a_word(host: str) -> None:
    with pytest.raises(InsecureAddress, match="--insecure"):
        await listen(engine(), host, 0)


async def test_an_open_address_with_the_word_shows_a_name_that_others_reach() -> None:
    opened = await listen(engine(), "0.0.0.0", 0, insecure=True)

    port = int(opened.url.rpartition(":")[2])
    async with aiohttp.ClientSession() as session:
        answers = [
            (await session.get(f"http://127.0.0.1:{port}/healthz")).status,
            (
                await session.get(
                    f"http://127.0.0.1:{port}/healthz", headers={"Host": f"{socket.gethostname()}:{port}"}
                )
            ).status,
        ]

    assert opened.url == f"http://{socket.gethostname()}:{port}"
    assert answers == [200, 200]
    await opened.close()


async def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(InvalidOption, match="--host"):
        await listen(engine(), "192.0.2.1", 0, insecure=True)


async def test_tls_answers_and_a_client_that_does_not_trust_it_says_so(certificate: tuple[str, str]) -> None:
    opened = await listen(engine(), "127.0.0.1", 0, tls_cert=certificate[0], tls_key=certificate[1])
    client = Client(opened.url, "admin-token")

    async with aiohttp.ClientSession() as session:
        answer = await session.get(f"{opened.url}/healthz", ssl=False)

    assert opened.url.startswith("https://")
    assert answer.status == 200
    with pytest.raises(EngineUnreachable, match="SSL_CERT_FILE"):
        await client.status()
    await client.close()
    await opened.close()


async def test_a_certificate_that_cannot_be_read_is_refused(certificate: tuple[str, str], tmp_path: Path) -> None:
    for files in [
        (str(tmp_path / "none.pem"), None),
        (certificate[1], certificate[1]),
        (certificate[0], certificate[0]),
    ]:
        with pytest.raises(InvalidOption, match="--tls-cert"):
            await listen(engine(), "127.0.0.1", 0, tls_cert=files[0], tls_key=files[1])


@pytest.mark.parametrize(
    ("host", "answer"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("h", False),
    ],
)
def test_loopback_is_told_from_the_rest(host: str, answer: bool) -> None:
    assert is_loopback(host) is answer
