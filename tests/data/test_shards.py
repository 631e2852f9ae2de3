"""Stores whose tokens are in several files."""

import numpy as np
import pytest

from gptexp.data import shards
from gptexp.data.shards import BLOCK_BYTES, DIGEST_BYTES, ShardWriter, block_digest, digest_shards
from gptexp.data.token_store import TokenStore
from gptexp.errors import UserError
from gptexp.files import sha256
from gptexp.tasks.prepare import prepare


@pytest.fixture
def words(text_file):
    return ("task=pretrain", "data=files", f"data.path={text_file}", "tokenizer=byte")


def test_a_store_in_shards_holds_the_tokens_of_one_in_one_file(words, tiny, monkeypatch, capsys):
    one = prepare(tiny(*words, "cache=one")).store
    monkeypatch.setattr(shards, "SHARD_TOKENS", 10_000)
    many = prepare(tiny(*words, "cache=many")).store
    counts = [shard["tokens"] for shard in many.meta["shards"]["train"]]
    assert counts[:-1] == [10_000] * (len(counts) - 1)
    assert len(counts) == 1 + len(one.tokens("train")) // 10_000
    for split in ("train", "val"):
        assert many.tokens(split)[:].tolist() == one.tokens(split)[:].tolist()
    assert set(many.meta["files"]) == {p.name for p in many.folder.iterdir()} - {"meta.json"}
    batches = [store_batch(store) for store in (one, many)]
    assert batches[0].tolist() == batches[1].tolist()
    shard = many.folder / many.meta["shards"]["train"][1]["file"]
    shard.write_bytes(shard.read_bytes()[:-2])
    assert prepare(tiny(*words, "cache=many")).store.is_new
    assert f"damaged token cache: {shard}" in capsys.readouterr().err
    shard.unlink()
    with pytest.raises(UserError, match=rf"is not a complete token store \({shard.name}: "):
        prepare(tiny("task=pretrain", "data=tokens", f"data.path={many.folder}"))


def store_batch(store: TokenStore) -> np.ndarray:
    starts = np.arange(0, len(store.tokens("train")) - 700, 611)
    return np.array(store.tokens("train").read(starts, np.full(len(starts), 700)))


def test_sums_hold_a_digest_of_every_block_of_every_shard(tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "SHARD_TOKENS", BLOCK_BYTES)  # two blocks a shard
    writer = ShardWriter(tmp_path, "train", np.dtype("<u2"))
    tokens = np.arange(BLOCK_BYTES + BLOCK_BYTES // 2 + 5) % 1000
    for start in range(0, len(tokens), 999):
        writer.write(tokens[start : start + 999].tolist())
    writer.close()
    assert [shard["tokens"] for shard in writer.shards] == [BLOCK_BYTES, BLOCK_BYTES // 2 + 5]
    hashes = digest_shards(tmp_path, "train", writer.shards)
    files = [tmp_path / shard["file"] for shard in writer.shards]
    assert hashes == {file.name: sha256(file) for file in files}
    content = [file.read_bytes() for file in files]
    blocks = [
        part[i : i + BLOCK_BYTES] for part in content for i in range(0, len(part), BLOCK_BYTES)
    ]
    sums = (tmp_path / "train.sums").read_bytes()
    assert len(sums) == 4 * DIGEST_BYTES
    assert sums == b"".join(map(block_digest, blocks))
