"""The bank with the demo model: what is encoded, what is kept, what survives a damaged file."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from serve.errors import InvalidVocabulary
from serve.models.runtime import ModelRuntime, load_runtime
from serve.settings import LimitSettings, ServeSettings
from serve.text.bank import BankBuilder
from tests.tolerances import assert_close
from tests.waiting import until

pytestmark = pytest.mark.numeric

LABELS = tuple(f"a person doing thing number {number}" for number in range(400))
TEMPLATES = ("{}", "a video of {}")


@pytest.fixture
async def runtime(tmp_path: Path) -> AsyncIterator[ModelRuntime]:
    found = await load_runtime(settings(tmp_path), "demo")
    yield found
    await found.close()


def settings(folder: Path) -> ServeSettings:
    return ServeSettings(cache_dir=folder / "cache", limits=LimitSettings(bank_cache_bytes=2**20))


def dtype_of(runtime: ModelRuntime) -> str:
    """What the engine computes in; prompts were encoded in batches of another size."""
    return "bfloat16" if runtime.engine.name.endswith("bf16") else "float32"


def kept_file(folder: Path) -> Path:
    (found,) = (folder / "cache" / "text").glob("*.sqlite")
    return found


async def reloaded(folder: Path) -> ModelRuntime:
    return await load_runtime(settings(folder), "demo")


async def test_one_changed_label_of_400_encodes_one_label(runtime: ModelRuntime) -> None:
    bank = runtime.bank_builder
    first = await bank.build(LABELS, TEMPLATES)
    assert bank.num_encoded_prompts == 800
    changed = (*LABELS[:200], "something else", *LABELS[201:])
    second = await bank.build(changed, TEMPLATES)
    assert bank.num_encoded_prompts == 802
    np.testing.assert_array_equal(np.delete(first, 200, axis=1), np.delete(second, 200, axis=1))
    assert np.abs(first[:, 200] - second[:, 200]).max() > 1e-3


async def test_a_restart_reads_what_was_kept(runtime: ModelRuntime, tmp_path: Path) -> None:
    first = await runtime.bank_builder.build(LABELS, TEMPLATES)
    again = await reloaded(tmp_path)
    np.testing.assert_array_equal(await again.bank_builder.build(LABELS, TEMPLATES), first)
    assert again.bank_builder.num_encoded_prompts == 0
    await again.close()


@pytest.mark.parametrize("damage", ["bytes", "checksum", "short", "empty"])
async def test_a_damaged_file_is_never_trusted(runtime: ModelRuntime, tmp_path: Path, damage: str) -> None:
    first = await runtime.bank_builder.build(LABELS[:50], TEMPLATES)
    runtime.bank_builder.close()
    path = kept_file(tmp_path)
    with sqlite3.connect(path) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
        if damage == "checksum":
            connection.execute("update kept set features = zeroblob(512) where rowid <= 10")
        if damage == "short":
            connection.execute("update kept set features = x'00' where rowid <= 10")
    connection.close()
    if damage == "bytes":
        path.write_bytes(b"no database" * 1000)
    if damage == "empty":
        path.write_bytes(b"")
    again = await reloaded(tmp_path)
    assert_close(await again.bank_builder.build(LABELS[:50], TEMPLATES), first, dtype=dtype_of(again))
    assert again.bank_builder.num_encoded_prompts == (10 if damage in ("checksum", "short") else 100)
    await again.close()
    third = await reloaded(tmp_path)
    await third.bank_builder.build(LABELS[:50], TEMPLATES)
    assert third.bank_builder.num_encoded_prompts == 0, "the file was made whole again"
    await third.close()


async def test_a_locked_file_costs_time_and_no_answer(runtime: ModelRuntime, tmp_path: Path) -> None:
    await runtime.bank_builder.build(LABELS[:5], TEMPLATES)
    with closing(sqlite3.connect(kept_file(tmp_path))) as lock:
        lock.execute("begin exclusive")
        found = await runtime.bank_builder.build(LABELS[5:9], TEMPLATES)
    assert found.shape[1] == 4
    assert runtime.bank_builder.num_encoded_prompts == 18


async def test_a_short_list_does_not_wait_for_a_long_one(runtime: ModelRuntime) -> None:
    done: list[str] = []

    async def encode(name: str, labels: tuple[str, ...]) -> None:
        await runtime.bank_builder.build(labels, ("{}",))
        done.append(name)

    long = asyncio.create_task(encode("long", tuple(f"number {number}" for number in range(1500))))
    await until(lambda: runtime.bank_builder.num_encoded_prompts > 0)  # the first of many runs
    await encode("short", ("quick", "brown", "fox"))
    await long
    assert done == ["short", "long"]


async def test_what_cannot_be_encoded_is_refused_beforehand(runtime: ModelRuntime) -> None:
    with pytest.raises(InvalidVocabulary, match="tokens"):
        runtime.bank_builder.check_encodable(["word " * 40], TEMPLATES, num_phrases=1)
    with pytest.raises(InvalidVocabulary, match="takes 2048000 bytes; the limit is 917504 bytes"):
        runtime.bank_builder.check_encodable(LABELS, TEMPLATES, num_phrases=2000)
    runtime.bank_builder.check_encodable(LABELS, TEMPLATES, num_phrases=len(LABELS))
    assert runtime.bank_builder.num_encoded_prompts == 0


async def test_memory_counts_banks_and_single_prompts(runtime: ModelRuntime) -> None:
    limit = 2**20
    num_labels = limit // 6 // (4 * runtime.contract.embed_dim)  # five banks take 5/6 of the limit, banks may take 7/8
    bank = BankBuilder(runtime.engine, runtime.tokenizer, max_batch_size=64, max_bytes=limit)

    async def encoded(start: int) -> int:
        before = bank.num_encoded_prompts
        await bank.build(tuple(f"number {start + number}" for number in range(num_labels)), ("{}",))
        assert bank.memory_bytes <= limit
        return bank.num_encoded_prompts - before

    starts = [number * num_labels for number in range(6)]
    assert [await encoded(start) for start in starts] == [num_labels] * 6
    assert await encoded(starts[5]) == await encoded(starts[1]) == 0, "these banks are in memory"
    assert await encoded(starts[0]) > num_labels / 2, "the bank that was not used for longest made room"


async def test_a_bank_in_slices_equals_its_parts(runtime: ModelRuntime) -> None:
    labels = tuple(f"number {number}" for number in range(300))
    whole = await runtime.bank_builder.build(labels, TEMPLATES)
    parts = [await runtime.bank_builder.build(labels[start : start + 100], TEMPLATES) for start in (0, 100, 200)]
    np.testing.assert_allclose(whole, np.concatenate(parts, axis=1), atol=2e-6)  # rows are cached; only the mean rounds
