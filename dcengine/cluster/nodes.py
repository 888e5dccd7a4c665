"""Scheduler and workers as we start them: quiet, without dashboards, without open side doors."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import dask
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from distributed import Scheduler, Security, Worker
from distributed.utils import get_ip, get_ipv6

from .settings import Certificate, Identity

IDENTITY = "dcengine_identity"  #: attribute of a Dask worker that carries its `Identity`

SILENT = logging.CRITICAL + 1
DAY, LIFE = timedelta(days=1), timedelta(days=3650)  #: clocks may differ; an engine may run for years

QUIET: dict[str, Any] = {
    "distributed.scheduler.http.routes": [],  # plain HTTP beside the encrypted port would be a way in
    "distributed.worker.http.routes": [],
    "distributed.worker.profile.enabled": False,
    "distributed.scheduler.work-stealing": False,
    "distributed.scheduler.idle-timeout": None,
    "distributed.admin.low-level-log-length": 100,  # events kept per topic
    "distributed.admin.system-monitor.disk": False,
}  #: Dask settings of processes that only hold our own scheduler or worker


def configure_process() -> None:
    """Set Dask up in a process that is ours alone."""
    dask.config.set(QUIET)
    # Dask logs every peer that is killed or leaves as an error with a traceback; what matters, we say
    logging.getLogger("distributed").setLevel(SILENT)
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("distributed.")]:
        logging.getLogger(name).setLevel(SILENT)


@contextmanager
def calm() -> Iterator[None]:
    """Start nodes in somebody's own process: no messages below warnings, no pages over plain HTTP."""
    logger = logging.getLogger("distributed")
    logger.setLevel(max(logger.level, logging.WARNING))
    with dask.config.set({name: value for name, value in QUIET.items() if name.endswith("http.routes")}):
        yield


def new_certificate() -> Certificate:
    """Return a key pair for one cluster's life, signed by itself: whoever has it belongs to the cluster.

    On an elliptic curve: RSA, which Dask's own would be, takes up to a tenth of a second to make.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dcengine-cluster")])
    now = datetime.now(timezone.utc)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - DAY, now + LIFE)
    signed = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, SHA256())
    pem = signed.public_bytes(Encoding.PEM).decode()
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return Certificate(ca=pem, certificate=pem, key=secret)


def security(certificate: Certificate | None) -> Security | None:
    """Return Dask's form of *certificate*."""
    if certificate is None:
        return None
    pair = {"cert": certificate.certificate, "key": certificate.key}
    roles = {f"tls_{role}_{part}": pem for role in ("client", "scheduler", "worker") for part, pem in pair.items()}
    return Security(tls_ca_file=certificate.ca, require_encryption=True, **roles)


def new_scheduler(*, host: str, certificate: Certificate | None) -> Scheduler:
    """Return a scheduler, not yet started, that listens on a free port of *host*."""
    return Scheduler(
        host=host,
        port=0,
        protocol="tls" if certificate else "tcp",
        security=security(certificate),
        dashboard=False,
        dashboard_address="127.0.0.1:0",
    )


def new_local_scheduler() -> Scheduler:
    """Return a scheduler, not yet started, that only this process can reach."""
    return Scheduler(protocol="inproc", dashboard=False, dashboard_address="127.0.0.1:0")


def new_worker(
    scheduler: str,
    *,
    name: str,
    identity: Identity,
    slots: int = 1,
    certificate: Certificate | None = None,
    directory: str,
) -> Worker:
    """Return a worker, not yet started, for the scheduler at *scheduler*."""
    worker = Worker(
        scheduler,
        name=name,
        nthreads=slots,
        host=_address_towards(scheduler),
        security=security(certificate),
        memory_limit=0,
        local_directory=directory,
        dashboard=False,
        dashboard_address="127.0.0.1:0",
        lifetime=None,
    )
    setattr(worker, IDENTITY, identity)
    return worker


def _address_towards(scheduler: str) -> str | None:
    """Return the address of this machine that the machine of *scheduler* sees."""
    protocol, _, rest = scheduler.partition("://")
    if protocol == "inproc":
        return None
    host, _, port = rest.rpartition(":")
    if host.startswith("["):
        return f"{protocol}://[{get_ipv6(host.strip('[]'), int(port))}]"
    return f"{protocol}://{get_ip(host, int(port))}"
