"""Texts that rows share keep their ids, whether they are remembered or not."""

from __future__ import annotations

from pathlib import Path

import pytest

from dcengine.store.names import Names
from dcengine.store.opening import open_for_writing


def test_of_many_texts_some_are_remembered_and_all_keep_their_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcengine.store.names.KNOWN", 3)
    connection, names = open_for_writing(tmp_path / "jobs.db"), Names()
    try:
        ids = [names.need(connection, f"session.s{number}") for number in range(10)]

        assert [names.need(connection, f"session.s{number}") for number in range(10)] == ids
        assert len(set(ids)) == 10
        assert len(names._needs) <= 3
    finally:
        connection.close()
