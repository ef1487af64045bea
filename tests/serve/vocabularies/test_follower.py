"""Following the store while it changes."""

import asyncio
import threading
from pathlib import Path

import pytest

from serve.models.registry import ModelRegistry
from serve.settings import ServeSettings
from serve.store.database import Database, sqlite_url
from serve.upload_folder import UploadFolder
from serve.video.workers import DecodePool
from serve.vocabularies.changes import VocabularyInput
from serve.vocabularies.service import VocabularyService


async def test_a_change_made_while_the_store_is_asked_is_not_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ServeSettings()
    database = Database(sqlite_url(tmp_path / "store.db"))
    await asyncio.to_thread(database.migrate)
    vocabularies = VocabularyService(
        database,
        ModelRegistry(settings),
        pool=DecodePool(settings.decode),
        folder=UploadFolder(tmp_path),
        settings=settings,
    )
    await vocabularies.commands.put("pets", VocabularyInput(labels=["dog"]), expected=None, author="")
    asked, go_on = threading.Event(), threading.Event()
    ask = vocabularies.store.latest_versions

    def slow_answer() -> dict[str, int]:
        answer = ask()
        asked.set()
        go_on.wait(20)
        return answer

    monkeypatch.setattr(vocabularies.store, "latest_versions", slow_answer)
    following = asyncio.create_task(vocabularies.follower.follow())
    await asyncio.to_thread(asked.wait, 20)
    await vocabularies.commands.put("tools", VocabularyInput(labels=["saw"]), expected=None, author="")
    await vocabularies.commands.put("pets", VocabularyInput(labels=["cat"]), expected=1, author="")
    go_on.set()
    await following
    assert vocabularies.catalogue.names() == ["pets", "tools"]
    assert vocabularies.catalogue.latest("pets") == 2
    await vocabularies.commands.delete("tools", expected=1)
    await vocabularies.follower.follow()
    assert vocabularies.catalogue.names() == ["pets"]
    await asyncio.to_thread(database.close)
