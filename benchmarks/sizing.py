"""`python -m benchmarks.sizing`: bytes on disk and in memory for each item, user and event.

Fills an LMDB store through the commands' own functions: items, clicks of few a user, more clicks of the same users,
clicks with an `event_id`, lists that were shown. A figure is what the store grew by, over what was added. A server on
that store then ranks every item; its private memory before and after says what an item takes there. Texts are those of
the simulated site, each of them different; the encoder is an untrained one whose vectors are as wide as the built-in
one's, since sizes depend on the width alone. Works in a temporary folder, on Linux.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import chdir, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import lmdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from benchmarks.report import Result, command
from pipelines.load import events_into, load_items
from pipelines.process import one_blas_thread
from pipelines.refresh_collaborative import refresh_in
from pipelines.simulate import simulate
from pipelines.train import train
from recsys.client import Client, ClientError
from recsys.config import load_config
from recsys.online.open_state import open_state
from recsys.registry import versions

SEED, NAME = 7, "sized"
WIDTH = 384
"""Numbers of a text's vector, as many as the built-in encoder's."""
FIRST_EVENTS, MORE_EVENTS, SHOWN = 10, 40, 40
"""Clicks of a user at first, clicks that follow, and items of a list that is shown to each."""
READY_SECONDS, AT_ONCE = 300, 1000
SETTINGS = (
    "encoder.head_epochs=1",
    "encoder.fine_tune_epochs=0",
    "encoder.dtype=float32",
    "encoder.max_tokens=24",
    "encoder.min_impressions=200",
    "evaluation.resamples=100",
    "final_training=false",
    "registered=ranker",
    "ranker.max_trees=20",
    "ranker.small_data_lists=0",
)


@dataclass(frozen=True)
class Amounts:
    """How much the store is filled with."""

    items: int
    users: int


def measure(quick: bool) -> list[Result]:
    """Bytes in the store and in a server's memory for each item, user and event; quick: in under 2 minutes."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    one_blas_thread()
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        simulate(Path("site"), seed=SEED, users=200, items=300, impressions=2_500)
        save_untrained_encoder(Path("base"), Path("site"))
        config = load_config(None, (*SETTINGS, "encoder.base_model=base"))
        uri = train(Path("site"), config, name=NAME).models.ranker.uri
        return measure_sizes(
            Path("site"), uri, Path("sized"), Amounts(3_000, 600) if quick else Amounts(50_000, 10_000)
        )


def measure_sizes(data: Path, uri: str, folder: Path, amounts: Amounts) -> list[Result]:
    """`measure` of a version on tables made from those in `data`. folder: new, for tables and store. The working folder
    is that of the training."""
    folder.mkdir()
    store, items = folder / "store", folder / "items.parquet"
    ids = _write_items(data / "items.parquet", items, amounts.items)
    load_items(items, str(store), uri)
    return [*_disk(store, uri, ids, amounts), *_memory(store, uri, ids)]


def _disk(store: Path, uri: str, ids: Sequence[str], amounts: Amounts) -> Iterator[Result]:
    size = _bytes(store)
    yield Result(
        "store_bytes_per_item", size / len(ids), f"bytes, {len(ids):,} items with text and {WIDTH} numbers each"
    )
    ranking_model = versions.load(uri).ranking_model
    clicks = _Clicks(ids, amounts.users)
    grown = []
    for events in (
        clicks.table(FIRST_EVENTS),
        clicks.table(MORE_EVENTS),
        clicks.table(MORE_EVENTS, with_ids=True),
        clicks.lists(SHOWN),
    ):
        path = store.with_name("events.parquet")
        pq.write_table(events, path)
        with open_state(str(store), ranking_model.settings, create=False) as state:
            report = events_into(state, path)
        if report.accepted != events.num_rows:
            raise RuntimeError(f"expected {events.num_rows:,} rows in the store, got {report.accepted:,}")
        before, size = size, _bytes(store)
        grown.append((size - before) / events.num_rows)
    with open_state(str(store), ranking_model.settings, create=False) as state:
        refresh_in(state, ranking_model)
    first, more, with_ids, shown = grown
    user = (first - more) * FIRST_EVENTS
    yield Result("store_bytes_per_user", user, f"bytes, {amounts.users:,} users, beside their events")
    yield Result("store_bytes_per_event", more, f"bytes, {MORE_EVENTS} clicks more of each user")
    yield Result(
        "store_bytes_per_event_with_id", with_ids, "bytes, with an event_id, against without", more, with_ids / more
    )
    yield Result("store_bytes_per_shown_item", shown, f"bytes, lists of {SHOWN} items")
    tables = (_bytes(store) - size) / len(ids)
    yield Result("store_bytes_of_tables_per_item", tables, "bytes, one collaborative snapshot")
    used, file = _bytes(store), (store / "data.mdb").stat().st_blocks * 512
    yield Result(
        "store_file_megabytes", file / 1e6, "MB on the disk, against the pages in use", used / 1e6, file / used
    )


def _memory(store: Path, uri: str, ids: Sequence[str]) -> Iterator[Result]:
    first, rest = ids[:AT_ONCE], ids[AT_ONCE:]
    with _server(store, uri) as (process, client):
        for _ in range(3):
            client.rank(None, first)
        before = _private_bytes(process)
        for start in range(0, len(rest), AT_ONCE):
            client.rank(None, rest[start : start + AT_ONCE])
        after = _private_bytes(process)
    yield Result("server_megabytes_at_start", before / 1e6, f"MB private, {len(first):,} items read")
    yield Result("server_bytes_per_item", (after - before) / len(rest), f"bytes private, {len(rest):,} items more")


class _Clicks:
    """Clicks of users on random items, later and later, each pair of user and item once or seldom again."""

    def __init__(self, ids: Sequence[str], users: int) -> None:
        self._items = pa.array(ids)
        self._users = users
        self._random = np.random.default_rng(SEED)
        self._time = (int(time.time()) - 86_400) * 1_000_000
        self._n = 0

    def table(self, each: int, *, with_ids: bool = False) -> pa.Table:
        """So many clicks of each user, in order of time."""
        n = each * self._users
        columns = {
            "user_id": self._draw(np.tile(np.arange(self._users), each)),
            "item_id": self._items.take(pa.array(self._random.integers(0, len(self._items), n))),
            "timestamp": self._times(np.arange(n)),
        }
        if with_ids:
            columns["event_id"] = pa.array([f"event-{self._n + number:012d}" for number in range(n)])
            self._n += n
        return pa.table(columns)

    def lists(self, size: int) -> pa.Table:
        """One shown list of so many items for each user, without clicks: an impressions table."""
        rows = np.repeat(np.arange(self._users), size)
        return pa.table(
            {
                "impression_id": pa.array([f"list-{row:012d}" for row in rows]),
                "user_id": self._draw(rows),
                "timestamp": self._times(rows),
                "item_id": self._items.take(pa.array(self._random.integers(0, len(self._items), len(rows)))),
                "clicked": pa.array(np.zeros(len(rows), np.int8)),
            }
        )

    def _draw(self, users: np.ndarray) -> pa.Array:
        return pa.array([f"user-{number:08d}" for number in users])

    def _times(self, steps: np.ndarray) -> pa.Array:
        start, self._time = self._time, self._time + 1000 * (int(steps[-1]) + 1)
        return pa.array(start + 1000 * steps, pa.timestamp("us", tz="UTC"))


def _write_items(source: Path, target: Path, n: int) -> list[str]:
    """Items like those of a table, with ids and titles of their own; the ids."""
    table = pq.read_table(source)
    rows = np.arange(n) % table.num_rows
    made = table.take(pa.array(rows))
    ids = [f"item-{number:08d}" for number in range(n)]
    titles = [f"{title} {number}" for number, title in enumerate(made["title"].to_pylist())]
    for name, values in (("item_id", ids), ("title", titles)):
        made = made.set_column(made.schema.get_field_index(name), name, pa.array(values))
    pq.write_table(made, target)
    return ids


def save_untrained_encoder(folder: Path, data: Path) -> None:
    """One layer that knows the words of the site's titles; its vectors have WIDTH numbers."""
    table = pq.read_table(data / "items.parquet", columns=["title", "description"])
    texts = [text for column in table.columns for text in column.drop_null().to_pylist()]
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    words = dict.fromkeys((*special, *(word.lower() for text in texts for word in text.split())))
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", mask_token="[MASK]", model_max_length=128
    ).save_pretrained(folder)
    shape = BertConfig(
        vocab_size=len(words),
        hidden_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=6,
        intermediate_size=WIDTH,
        max_position_embeddings=128,
    )
    BertModel(shape).save_pretrained(folder)


def _bytes(store: Path) -> int:
    """The pages that hold something. The file is larger: pages that a change has left are used again by later ones."""
    with lmdb.open(str(store), readonly=True) as environment:
        pages = environment.stat()
    return pages["psize"] * (pages["branch_pages"] + pages["leaf_pages"] + pages["overflow_pages"])


def _private_bytes(process: subprocess.Popen[bytes]) -> int:
    """Memory that is the process's own: without the pages of the store and of libraries, which others share."""
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


@contextmanager
def _server(store: Path, uri: str) -> Iterator[tuple[subprocess.Popen[bytes], Client]]:
    """A server of a version that is ready, and a client of it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    line = [sys.executable, "-m", "pipelines.cli", "serve", "--model", uri, "--store", str(store), "--port", str(port)]
    process = subprocess.Popen([*line, "--set", "serving.budget_ms=0"], stdout=subprocess.DEVNULL)
    try:
        with Client(f"http://127.0.0.1:{port}", timeout=READY_SECONDS) as client:
            _wait_until_ready(process, client)
            yield process, client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(READY_SECONDS)


def _wait_until_ready(process: subprocess.Popen[bytes], client: Client) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client.ready()
        except ClientError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"expected a server that is ready within {READY_SECONDS} s, got none")


if __name__ == "__main__":
    command(measure)
