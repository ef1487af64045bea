"""Following the store while it changes."""

import asyncio
import threading
from pathlib import Path

import pytest

from serve.models.registry import ModelRegistry
from serve.settings import ServeSettings
from serve.store.database import Database, sqlite_url
from serve.uploads import UploadFolder
from serve.video.workers import DecodePool
from serve.vocabularies.catalogue import Catalogue
from serve.vocabularies.changes import VocabularyInput


async def test_a_change_made_while_the_store_is_asked_is_not_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ServeSettings()
    database = Database(sqlite_url(tmp_path / "store.db"))
    await asyncio.to_thread(database.migrate)
    catalogue = Catalogue(
        database,
        ModelRegistry(settings),
        pool=DecodePool(settings.decode),
        folder=UploadFolder(tmp_path),
        settings=settings,
    )
    await catalogue.put("pets", VocabularyInput(labels=["dog"]), expected=None, author="")
    asked, go_on = threading.Event(), threading.Event()
    ask = catalogue.store.latest_versions

    def slow_answer() -> dict[str, int]:
        answer = ask()
        asked.set()
        go_on.wait(20)
        return answer

    monkeypatch.setattr(catalogue.store, "latest_versions", slow_answer)
    following = asyncio.create_task(catalogue._follow_store())
    await asyncio.to_thread(asked.wait, 20)
    await catalogue.put("tools", VocabularyInput(labels=["saw"]), expected=None, author="")
    await catalogue.put("pets", VocabularyInput(labels=["cat"]), expected=1, author="")
    go_on.set()
    await following
    assert catalogue.names() == ["pets", "tools"]
    assert catalogue.latest("pets") == 2
    await catalogue.delete("tools", expected=1)
    await catalogue._follow_store()
    assert catalogue.names() == ["pets"]
    await asyncio.to_thread(database.close)
