"""Token stores behind a URL."""

import json
import os
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY, TRAIN, likeness, sentence
from range_server import RangeServer

from gptexp.config import compose
from gptexp.data import block_cache, remote_files, remote_store, remote_tokens, shards
from gptexp.data.corpora import open_corpus
from gptexp.data.parts import units
from gptexp.data.parts.part_folder import PartFolder
from gptexp.data.remote_files import RemoteDataError, RemoteFiles
from gptexp.data.remote_store import ShardsBehindUrl, copy_small_files
from gptexp.data.token_store import TokenStore
from gptexp.errors import Preempted, UserError
from gptexp.files import dumps_with_checksum, loads_checked
from gptexp.run import run
from gptexp.tasks.prepare import prepare
from gptexp.tasks.task import make_task

TASK = ("task=pretrain", "model.context=16")
BLOCK = 1024


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A store of some 40 blocks in three shards."""
    folder, rng = tmp_path_factory.mktemp("built"), random.Random(0)
    (folder / "text.txt").write_text("\n".join(sentence(rng) for _ in range(340)))
    source = (f"data.path={folder / 'text.txt'}", "data.split=exact", f"cache={folder}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_TOKENS", 8_000)
        patch.setattr(shards, "BLOCK_BYTES", BLOCK)
        config = compose.compose_config([*TINY, *TASK, "data=files", "tokenizer=byte", *source])
        return prepare(config).store.folder


@pytest.fixture
def stored(built, own_folder, monkeypatch):
    """The store, and the settings of tests: small blocks and little patience."""
    for module in (shards, block_cache, remote_tokens):
        monkeypatch.setattr(module, "BLOCK_BYTES", BLOCK)
    monkeypatch.setattr(remote_files, "FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(remote_tokens, "PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr(remote_store, "OPENING_SECONDS", 0.2)
    return TokenStore(shutil.copytree(built, own_folder / "store"))


@pytest.fixture
def server(stored):
    with RangeServer(stored.folder) as running:
        yield running


@pytest.fixture
def open_url(tiny, server):
    """Open the store behind the URL; each call is a new process with the same cache."""
    return lambda *words: (
        prepare(tiny(*TASK, "data=tokens", f"data.path={server.url}/", *words)).store
    )


def read_some(tokens, seed=0):
    rng = random.Random(seed)
    starts = np.array([rng.randrange(len(tokens)) for _ in range(9)])
    lengths = np.array([rng.choice([0, 1, 100, 700, 10_000]) for _ in range(9)])
    return [piece.tolist() for piece in tokens.read(starts, lengths)]


def test_ranges_are_those_of_the_store_and_come_from_this_machine_the_second_time(
    stored, open_url, server
):
    local, remote = stored.tokens("train"), open_url().tokens("train")
    assert len(local.parts) == 3
    assert len(remote) == len(local)
    opened = len(server.requests)
    assert [read_some(remote, seed) for seed in range(9)] == [
        read_some(local, seed) for seed in range(9)
    ]
    assert remote[-3:].tolist() == local[-3:].tolist()
    assert remote[:].tolist() == local[:].tolist()
    asked = server.requests[opened:]
    assert sum(end - start for _, start, end in asked) == 2 * len(local)  # each block once
    again = open_url().tokens("train")
    count = len(server.requests)
    assert again[:].tolist() == local[:].tolist()
    assert len(server.requests) == count


def test_the_missing_blocks_of_a_batch_are_requested_together(open_url, server):
    tokens = open_url().tokens("train")
    count = len(server.requests)
    tokens.read(np.array([0, 600, 9_000]), np.array([10, 400, 10]))
    assert sorted(server.requests[count:]) == [
        ("/train-00001.tokens", BLOCK, 2 * BLOCK),
        ("/train.tokens", 0, 2 * BLOCK),
    ]


def test_a_prefetched_range_is_read_without_a_request(stored, open_url, server):
    tokens = open_url().tokens("train")
    starts, lengths = np.array([0, 9_000]), np.array([10, 400])
    tokens.prefetch(starts, lengths)
    for event in list(tokens.in_flight.values()):
        event.wait()
    count = len(server.requests)
    pieces = tokens.read(starts, lengths)
    assert len(server.requests) == count
    assert pieces[1].tolist() == stored.tokens("train")[9_000:9_400].tolist()


def test_failures_that_pass_are_repeated(stored, open_url, server, capsys, monkeypatch):
    monkeypatch.setattr(remote_tokens, "PATIENCE_SECONDS", 60)
    tokens = open_url().tokens("train")
    rng = random.Random(0)
    server.answer = lambda _: rng.choice([None, 503, 0, b"short"])
    assert tokens[:].tolist() == stored.tokens("train")[:].tolist()
    assert "Trying again for 60 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (404, r"train\.tokens: there is no such file\. Copy the store there again$"),
        (403, r"train\.tokens: no permission to read it\. Give this machine keys"),
        (500, r"train\.tokens: the server answers 500 Internal Server Error \(for 0\.2 s\)$"),
        (b"x" * 10**6, r"train\.tokens: .* It does not support ranges of bytes: give"),
        ("changed", r"train\.tokens: bytes 0 to 1,024 do not have the digest"),
    ],
)
def test_a_failure_that_lasts_is_told_with_the_file(answer, message, stored, open_url, server):
    tokens = open_url().tokens("train")
    server.answer = lambda _: None if answer == "changed" else answer
    file = stored.folder / "train.tokens"
    file.write_bytes(b"\xff" + file.read_bytes()[1:])
    with pytest.raises(RemoteDataError, match=message) as failure:
        tokens.read(np.array([0]), np.array([5]))
    assert failure.value.is_lasting == (answer != 500)


@pytest.mark.parametrize("damage", ["flipped", "cut", "removed"])
def test_a_damaged_block_in_the_cache_is_fetched_again(damage, open_url, server):
    expected = open_url().tokens("train")[:].tolist()
    [file] = Path("cache/remote").glob("*/blocks/train-00001")
    content = file.read_bytes()
    match damage:
        case "flipped":
            file.write_bytes(content[:3000] + bytes([content[3000] ^ 1]) + content[3001:])
        case "cut":
            file.write_bytes(content[:-1])
        case "removed":
            file.unlink()
    tokens = open_url().tokens("train")
    count = len(server.requests)
    assert tokens[:].tolist() == expected
    fetched = server.requests[count:]
    assert {path for path, *_ in fetched} == {"/train-00001.tokens"}
    assert sum(end - start for _, start, end in fetched) <= (
        16_000 if damage == "removed" else 1024
    )


def test_a_cache_that_cannot_be_written_is_a_failure_to_read_that_passes(server, monkeypatch):
    files = RemoteFiles(server.url)
    copied = copy_small_files(files, Path("cache"))
    tokens = ShardsBehindUrl(files, *copied, 10**9).tokens("train")
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(os, "pwrite", lambda *_: (_ for _ in ()).throw(full))
    tokens.prefetch(np.array([0]), np.array([5]))  # the thread goes on
    with pytest.raises(RemoteDataError, match=r"blocks/train-00000: no space is left"):
        tokens.read(np.array([0]), np.array([5]))


def test_small_files_are_compared_and_meta_json_stays_while_others_read_it(server):
    folder, _ = copy_small_files(RemoteFiles(server.url), Path("cache"))
    meta, file = folder / "meta.json", folder / "train.sums"
    inode = meta.stat().st_ino
    content, stat = file.read_bytes(), file.stat()
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    copy_small_files(RemoteFiles(server.url), Path("cache"))
    assert file.read_bytes() == content
    assert meta.stat().st_ino == inode


def test_files_beyond_the_limit_are_removed_while_they_are_in_use(stored, open_url, monkeypatch):
    tokens = open_url("data.cache_gb=0.1").tokens("train")
    monkeypatch.setattr(tokens.cache, "limit", 20_000)  # of 40 kB
    for seed in range(9):
        assert read_some(tokens, seed) == read_some(stored.tokens("train"), seed)
    tokens.cache.unmeasured = np.inf
    tokens.cache.shrink()
    files = Path("cache/remote").glob("*/blocks/*")
    assert sum(512 * file.stat().st_blocks for file in files) <= 20_000
    assert read_some(tokens) == read_some(stored.tokens("train"))


def test_a_forked_process_reads_with_connections_of_its_own(stored, open_url):
    tokens = open_url().tokens("train")
    tokens.prefetch(np.array([0]), np.array([5_000]))
    tokens.read(np.array([9_000]), np.array([5]))
    if (child := os.fork()) == 0:
        same = tokens[4_000:12_000].tolist() == stored.tokens("train")[4_000:12_000].tolist()
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0


def rewrite_meta(folder, **fields):
    meta = loads_checked((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(dumps_with_checksum({**meta, **fields}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no meta", r"meta\.json: there is no such file\. Give the address of a folder"),
        ("not json", r"its meta\.json is not that of a token store"),
        ("no sums", r"has no train\.sums, the digests"),
        ("outside", r"names a file outside of the folder, \.\./x"),
        ("short shard", r"train-00001\.tokens: has 9 bytes, and 16,000 were written"),
        ("no shard", r"train-00001\.tokens: there is no such file.* Copy the store there again"),
        ("no index", r"val\.index: there is no such file\. Copy the store there again"),
        ("other index", r"val\.index: its content is not what was written"),
        ("other task", r"data\.path=http.*: its tokens were made for layout other; this run"),
    ],
)
def test_a_store_that_cannot_be_read_is_refused_at_once(change, message, stored, open_url):
    folder, files = stored.folder, stored.meta["files"]
    match change:
        case "no meta":
            (folder / "meta.json").unlink()
        case "not json":
            (folder / "meta.json").write_text("[]")
        case "no sums":
            rewrite_meta(folder, files={k: v for k, v in files.items() if k != "train.sums"})
        case "outside":
            rewrite_meta(folder, files={**files, "../x": "0"})
        case "short shard":
            (folder / "train-00001.tokens").write_bytes(b"too short")
        case "no shard":
            (folder / "train-00001.tokens").unlink()
        case "no index":
            (folder / "val.index").unlink()
        case "other index":
            (folder / "val.index").write_bytes(b"x")
        case "other task":
            rewrite_meta(folder, task={"layout": "other"})
    with pytest.raises(UserError, match=message):
        open_url()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://me:secret@host/store", r"data\.path=https://\.\.\.: has a password or a query"),
        ("https://host/store?key=secret", "has a password or a query"),
        ("nothing://host/store", r"fsspec knows no protocol nothing://"),
        ("http:///store", r"names no host or bucket\. Type http://NAME/FOLDER"),
        ("http://host:99999/store", r"data\.path=http://host:99999/store: Port out of range"),
        ("simplecache::http://host/store", r"several addresses in one\. Give that of the store"),
    ],
)
@pytest.mark.usefixtures("stored")
def test_an_address_that_cannot_be_read_is_refused_without_its_secret(url, message, tiny):
    with pytest.raises(UserError, match=message) as refusal:
        prepare(tiny(*TASK, "data=tokens", f"data.path={url}"))
    assert "secret" not in str(refusal.value)


@pytest.mark.usefixtures("stored")
def test_a_server_that_does_not_answer_is_no_mistake_of_the_user(tiny):
    with pytest.raises(RemoteDataError, match=r"meta\.json: Cannot connect .* repeat the command$"):
        prepare(tiny(*TASK, "data=tokens", "data.path=http://127.0.0.1:9/store"))
    with pytest.raises(RemoteDataError, match=r"data\.path=ftp://127\.0\.0\.1:9/store: .*refused"):
        RemoteFiles("ftp://127.0.0.1:9/store")


def test_a_failure_of_the_server_is_not_taken_for_a_missing_shard(server):
    server.answer = lambda path: 503 if path == "/train.tokens" else None
    with pytest.raises(RemoteDataError, match=r"the server answers 503 .* \(for 0\.2 s\)$"):
        copy_small_files(RemoteFiles(server.url), Path("cache"))


def test_a_server_that_sends_whole_files_is_refused_before_it_sends_a_large_shard(server):
    server.answer = lambda path: (server.folder / path[1:]).read_bytes()
    with pytest.raises(RemoteDataError, match=r"\.tokens: .* does not support ranges of bytes"):
        copy_small_files(RemoteFiles(server.url), Path("cache"))
    assert "/train.tokens" not in {path for path, *_ in server.requests}


def test_a_small_file_that_a_transfer_damages_is_requested_again(stored, server):
    asked = []

    def answer(path):
        asked.append(path)
        return b"damaged" if path == "/val.index" and asked.count(path) == 1 else None

    server.answer = answer
    folder, _ = copy_small_files(RemoteFiles(server.url), Path("cache"))
    assert (folder / "val.index").read_bytes() == (stored.folder / "val.index").read_bytes()


def test_a_store_that_holds_out_texts_of_base_is_refused_behind_an_address_too(stored, tiny):
    corpus = {"source": "docstrings", "unseen": []}
    rewrite_meta(stored.folder, corpus=corpus, split=["exact", 0.05, 0.05, 0])
    words = ["data=tokens", f"data.path=FILE://{stored.folder}"]
    config = tiny(*TASK, *words)
    assert config.data.path == f"file://{stored.folder}"
    config.init = "base"
    with pytest.raises(UserError, match=r"data\.split=exact: would test on texts that base was"):
        prepare(config)


def test_s3_without_its_package_names_the_extra(monkeypatch):
    monkeypatch.setattr("gptexp.extras.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"s3fs: not installed\. Type: pip install 'gptexp\[s3\]'"):
        RemoteFiles("s3://bucket/store")


def test_a_bucket_is_read_like_a_folder(stored, tiny, monkeypatch):
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0)
    fsspec = pytest.importorskip("fsspec")
    pytest.importorskip("s3fs")
    server.start()
    for name, value in {
        "AWS_ENDPOINT_URL": "http://{}:{}".format(*server.get_host_and_port()),
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        bucket = fsspec.filesystem("s3")
        bucket.mkdir("bucket")
        for file in stored.folder.iterdir():
            bucket.pipe_file(f"bucket/runs/store/{file.name}", file.read_bytes())
        words = [*TASK, "data=tokens", "data.path=s3://bucket/runs/store/"]
        tokens = prepare(tiny(*words)).store.tokens("train")
        assert read_some(tokens) == read_some(stored.tokens("train"))
        bucket.rm("bucket/runs/store/meta.json")
        with pytest.raises(UserError, match=r"runs/store/meta\.json: there is no such file\. Give"):
            prepare(tiny(*words))
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        bucket.clear_instance_cache()
        with pytest.raises(UserError, match=r"meta\.json: .*\. Give this machine keys that may"):
            prepare(tiny(*words))
    finally:
        server.stop()
        bucket.clear_instance_cache()


def test_best_fit_packing_is_refused_since_it_reads_all_tokens(open_url):
    with pytest.raises(UserError, match=r"Use task\.packing=stream, or copy the store"):
        open_url("task.packing=best_fit")


def test_a_run_stops_saved_where_the_server_is_gone_and_goes_on_as_if_it_never_was(
    tiny, stored, server, monkeypatch, capsys
):
    words = [*TASK, "data=tokens", *TRAIN, "task.test_examples=2", "trainer.checkpoint_every=100"]
    local = run(tiny(*words, f"data.path={stored.folder}", "data.shuffle_block=4", "outputs=a"))
    monkeypatch.setattr("gptexp.data.loader.AHEAD_BLOCKS", 0)
    asked = []

    def answer(path):
        asked.append(path)
        return 0 if asked.count("/train.tokens") > 12 else None

    server.answer = answer
    config = tiny(*words, f"data.path={server.url}", "data.shuffle_block=4", "outputs=b")
    with pytest.raises(
        Preempted, match=r"^missing data after step \d+, which is saved: data\.path="
    ):
        run(config)
    server.answer = lambda _: None
    resumed = run(config)
    assert "resuming at step" in capsys.readouterr().err
    assert likeness(resumed) == likeness(local)


def test_a_store_in_parts_is_read_as_well(tiny, own_folder, text_file, monkeypatch):
    monkeypatch.setattr(units, "UNIT_BYTES", (20_000, 20_000))
    lines = text_file.read_text().splitlines()
    (own_folder / "rows.jsonl").write_text("\n".join(json.dumps({"text": line}) for line in lines))
    config = tiny(*TASK, "data=files", "data.path=rows.jsonl", "tokenizer=byte")
    layout = make_task(config.task, config.model).layout
    corpus = open_corpus(config.data, layout.fields, own_folder / "cache")
    parts = PartFolder(own_folder / "parts", corpus, layout, config.data, config.tokenizer)
    written = list(parts.write_missing(range(len(parts.units))))
    assert len(written) > 2
    parts.merge()
    with RangeServer(parts.path) as server:
        remote = prepare(tiny(*TASK, "data=tokens", f"data.path={server.url}")).store
        local = prepare(tiny(*TASK, "data=tokens", f"data.path={parts.path}")).store
        for split in ("train", "val", "test"):
            assert remote.tokens(split)[:].tolist() == local.tokens(split)[:].tolist()
        assert not remote.has("unseen")
