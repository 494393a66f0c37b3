"""Settings of the online server."""

from __future__ import annotations

from pydantic import Field

from recsys.settings.section import ConfigSection


class ServingConfig(ConfigSection):
    """The online server."""

    max_candidates: int = Field(1000, ge=1)
    """Most candidates of one request."""
    max_rows: int = Field(10_000, ge=1)
    """Most events or items of one request."""
    max_body_mb: float = Field(16.0, gt=0)
    """Largest body of a request, in MiB."""
    max_header_kb: float = Field(16.0, gt=0, le=48)
    """Largest address and headers of a request together, in KiB; the parser before it takes 64."""
    max_history: int = Field(1000, ge=0)
    """Most items in the `history` of one request."""
    max_characters: int = Field(4_000_000, ge=1)
    """Most characters in the texts of all items that come with one request together."""
    workers: int = Field(2, ge=1, le=64)
    """Requests worked on at the same time."""
    queue: int = Field(24, ge=0)
    """Requests that may wait for a worker; more are answered 503."""
    budget_ms: float = Field(50.0, ge=0)
    """Milliseconds that a ranking may take from its request's arrival on, else a lower rung answers; 0 for no limit."""
    popular_items: int = Field(100_000, ge=0)
    """Items whose clicks stay in memory for the rung popularity, the most clicked ones, about 150 bytes each."""
    popularity_seconds: float = Field(300.0, ge=0)
    """How often those clicks are read from the store; 0 never reads any."""
    threads: int = Field(1, ge=1)
    """Threads of torch and LightGBM within one request; BLAS has one in every command."""
    explained_items: int = Field(20, ge=0)
    """How many items of an answer, from the top, have an explanation where a request asks for it."""
    cached_texts: int = Field(100_000, ge=1)
    """Item texts whose vectors and terms stay in memory, about 2 kB each, and as much again for each further line."""
    future_seconds: float = Field(300.0, ge=0)
    """How far ahead of this machine's clock an event may be; later ones are rejected."""
    clock_skew: float = Field(300.0, ge=0)
    """Seconds by which a request's time may lie before the newest event, whose clock may be ahead; it counts as now."""
    rebuild_seconds: float = Field(60.0, ge=0)
    """How often the server looks for a due collaborative snapshot and for state beyond the horizon; 0 leaves them to
    `recsys refresh-collaborative` and `recsys store compact`."""
    watch_seconds: float = Field(5.0, ge=0)
    """How often the server asks the registry what the alias of its model names; 0 asks only on SIGHUP."""
    model_cache: str | None = None
    """Folder for copies of the last good versions, "" for none; None is STORE.models where the store is a folder."""
    shadow_share: float = Field(1.0, ge=0, le=1)
    """Share of the champion's answers that a challenger in shadow scores too."""
    shadow_queue: int = Field(32, ge=1)
    """Answers that may wait for the shadow, in each process; more are dropped and counted."""
    shadow_log_seconds: float = Field(60.0, ge=0)
    """How often what the shadow finds is written to its MLflow run; 0 writes it at the end only."""
    challenger_salt: str = ""
    """Another text gives the challenger another choice of users, of the same share."""
    log_rankings: str | None = None
    """Folder where answered rankings are logged with their features, as Parquet; None logs none.
    docs/logged-rankings.md."""
    log_share: float = Field(1.0, ge=0, le=1)
    """Share of the rankings that is logged, drawn by their request ids."""
    log_max_gb: float = Field(10.0, gt=0)
    """Largest size of that folder's logs together, in GB; the oldest files go first."""
    log_days: float = Field(30.0, gt=0)
    """Days after which a file of the log is removed."""
    log_file_rows: int = Field(50_000, ge=1)
    """Candidates after which a file of the log is written; twice as many may wait in memory, 4 bytes a column each."""
    log_file_seconds: float = Field(60.0, gt=0)
    """Seconds after which it is written in any case."""
    shutdown_seconds: float = Field(10.0, ge=0)
    """How long open requests may take to end when the server stops."""
