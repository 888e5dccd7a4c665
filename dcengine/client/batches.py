"""Questions about batches."""

from __future__ import annotations

import uuid

import msgspec

from ..connection import Connection
from ..verbs import BatchStatus, BatchSubmission, FailedItem, Report

_encode = msgspec.msgpack.Encoder().encode
_decode_reports = msgspec.msgpack.Decoder(list[Report]).decode


class AboutBatches(Connection):
    """Asks about batches, and for them."""

    async def submit_batch(self, submission: BatchSubmission) -> BatchStatus:
        if submission.request is None:
            submission = msgspec.structs.replace(submission, request=uuid.uuid4().hex)
        return self._value(BatchStatus, await self._ask("POST", "v1/batches", body=_encode(submission)))

    async def batch(self, id: int) -> BatchStatus:
        return await self._get(BatchStatus, f"v1/batches/{id}")

    async def batches(self, *, before: int | None = None, limit: int = 50) -> list[BatchStatus]:
        return await self._get(list[BatchStatus], "v1/batches", {"before": before, "limit": limit})

    async def reports(self, id: int, *, after: int = 0, wait: float = 0.0) -> list[Report]:
        async def ask(piece: float) -> list[Report] | None:
            answer = await self._ask("GET", f"v1/batches/{id}/reports", {"after": after, "wait": piece})
            return self._unpacked(_decode_reports, answer) or None

        return await self._until(ask, wait) or []

    async def failures(self, id: int, *, limit: int = 20) -> list[FailedItem]:
        return await self._get(list[FailedItem], f"v1/batches/{id}/failures", {"limit": limit})

    async def cancel_batch(self, id: int) -> BatchStatus:
        return await self._post(BatchStatus, f"v1/batches/{id}/cancel")

    async def retry_batch(self, id: int) -> BatchStatus:
        return await self._post(BatchStatus, f"v1/batches/{id}/retry")
