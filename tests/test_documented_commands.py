"""Every command and Python snippet of README and docs runs, on a small simulated site.

Commands get the settings of a tiny training beside their own. Servers run on a free port until the end of their block;
a snippet that asks a server has one with an empty store.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import click
import httpx
import pytest
from documented_site import NAME, DocumentedSite, document_site
from documents import PAGES, ROOT, Block, all_blocks, commands
from warm_process import Warm

from pipelines import cli

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

NOT_RUN = {
    "recsys train DIR --resume RUN": "tests/test_resume.py kills trainings and continues them",
    "pip wheel --no-deps --wheel-dir dist .": "tests/test_packaging.py builds the wheel",
    "pip install torch==2.13.0 dist/recsys-0.1.0-py3-none-any.whl": "an installation takes minutes",
    "pip install --no-deps dist/recsys-0.1.0-py3-none-any.whl": "there is no wheel, and the project is installed",
    "pip install httpx pydantic": "they are installed",
    "python3 -m venv /opt/recsys": "it writes outside of the test's folder",
    "/opt/recsys/bin/pip install --index-url https://download.pytorch.org/whl/cpu torch==2.13.0": "an installation",
    "/opt/recsys/bin/pip install -c constraints.txt .": "an installation",
    "cp deploy/compose.env.example deploy/compose.env": "tests/test_deployment.py reads the example",
    "recsys audit DIR --model models:/news-ranker@champion --logged LOG": "the site's log has no features",
    "recsys monitor store --model models:/news-ranker@champion --rankings LOG --events DIR/events.parquet": (
        "the site's log has no features; tests/test_monitor.py writes one"
    ),
    "pip install recsys[postgres]": "an installation",
    "recsys score s3://lake/log --candidates s3://lake/candidates/ --out s3://lake/scored/2026-12-01 --resume": (
        "tests/test_score.py does that"
    ),
    "recsys score DIR --candidates candidates.parquet --out OUT --engine ray --ray-address auto --workers 32": (
        "tests/test_ray.py does that"
    ),
    "mlflow server --backend-store-uri postgresql+psycopg://recsys@db.example/mlflow "
    "--artifacts-destination s3://bucket/mlflow --host 0.0.0.0 --port 5000": "tests/test_tracking_store.py starts one",
    "python -m pipelines.demo": "its steps are commands of these pages; as a whole it takes a minute",
}
"""Commands that are not run, each with the reason."""

PROGRAMS_NOT_RUN = ("docker", "install", "kubectl", "systemctl", "useradd")
"""Programs that change the machine or need an engine; tests/test_deployment.py checks the files that they are given."""

SERVER = "127.0.0.1:8000"

STAND_INS = {
    "demo/store": "store",
    "demo-ranker": f"{NAME}-ranker",
}
"""What stands in a command for the store and the models of the demo."""

HUB_MODELS = ("BAAI/bge-small-zh-v1.5",)
"""Base models that would be downloaded; the site's own stands in for them."""

_FRESH = count()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> DocumentedSite:
    return document_site(tmp_path_factory.mktemp("documented"))


def runnable(page: Path) -> list[Block]:
    return [block for block in all_blocks(page) if block.language in ("sh", "python", "json")]


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if any(block.language != "json" for block in runnable(page))],
    ids=lambda page: page.name,
)
def test_every_command_and_snippet_of_a_page_runs(
    page: Path, site: DocumentedSite, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(site.home)
    blocks = runnable(page)
    for number, block in enumerate(blocks):
        expected = blocks[number + 1] if number + 1 < len(blocks) and blocks[number + 1].language == "json" else None
        if block.language == "python":
            with ExitStack() as servers:
                text = block.text
                if SERVER in text:
                    session = Session(site, block, servers, None, capsys)
                    session.run(
                        f"recsys serve --create --store empty-{next(_FRESH)} --model models:/{NAME}-ranker@champion"
                    )
                    text = session.with_stand_ins(text)
                exec(compile(text, block.place, "exec"), {})
        elif block.language == "sh":
            with ExitStack() as servers:
                session = Session(site, block, servers, expected, capsys)
                for command in commands(block):
                    session.run(command)


class Session:
    """The commands of one block, one after the other. answer: the JSON that the page shows after the block."""

    def __init__(
        self,
        site: DocumentedSite,
        block: Block,
        servers: ExitStack,
        answer: Block | None,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self._site, self._block, self._servers, self._answer, self._capsys = site, block, servers, answer, capsys
        self._ports: dict[str, int] = {}

    def run(self, command: str) -> None:
        """Run one command as a person would; raises AssertionError where it fails."""
        words = shlex.split(self.with_stand_ins(command), comments=True)
        if " ".join(words) in NOT_RUN or " ".join(shlex.split(command, comments=True)) in NOT_RUN:
            return
        environment = {}
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
        if words[0] in PROGRAMS_NOT_RUN:
            return
        programs = {
            "recsys": self._recsys,
            "make": self._make,
            "curl": self._curl,
            "mlflow": lambda rest: self._mlflow(rest, environment),
            "redis-server": self._redis,
        }
        assert words[0] in programs, f"{self._block.place}: no way to run {command!r}"
        programs[words[0]](words[1:])

    def with_stand_ins(self, command: str) -> str:
        """A text with the names and ports of this test in place of those that the page shows."""
        for words, stand_in in STAND_INS.items():
            command = command.replace(words, stand_in)
        for model in HUB_MODELS:
            command = command.replace(model, str(self._site.base))
        for shown, port in self._ports.items():
            command = command.replace(f"127.0.0.1:{shown}", f"127.0.0.1:{port}")
        return command

    def _recsys(self, words: list[str]) -> None:
        words = [self._placed(word) for word in words]
        if words[:2] == ["data", "slates"]:
            words[2] = self._without_impressions(words[2])
        if words[0] == "serve":
            self._serve(words)
            return
        words += self._tiny_settings(words)
        code = cli.run(lambda: cli.cli(words, standalone_mode=False))
        said = self._capsys.readouterr()
        assert code == 0, f"{self._block.place}: {shlex.join(words)}\n{said.out[-2000:]}\n{said.err[-2000:]}"

    def _placed(self, word: str) -> str:
        """A new folder for an output, and a run for RUN."""
        if word in ("NEW", "OUT", "REJECTS"):
            return f"{word.lower()}-{next(_FRESH)}"
        return word.replace("RUN", self._site.run) if word.startswith("RUN") else word

    def _without_impressions(self, folder: str) -> str:
        """A copy of a folder of tables that logged no impressions."""
        copy = f"events-{next(_FRESH)}"
        shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("truth", "impressions.parquet"))
        return copy

    def _tiny_settings(self, words: list[str]) -> list[str]:
        """`--config` with the settings of a tiny training, where the command takes it."""
        command: click.Command = cli.cli
        for word in words:
            if isinstance(command, click.Group):
                command = command.commands[word]
        takes_it = any("--config" in parameter.opts for parameter in command.params)
        return ["--config", str(self._site.settings)] if takes_it else []

    def _serve(self, words: list[str]) -> None:
        port = free_port()
        self._ports["8000"] = port
        process = self._servers.enter_context(Warm("-m", "pipelines.cli", *words, "--port", str(port)))
        wait_for(f"http://127.0.0.1:{port}/health/ready", lambda: process.poll() is None, process.stderr)

    def _make(self, words: list[str]) -> None:
        subprocess.run(["make", "-n", *words], cwd=ROOT, check=True, capture_output=True, text=True)

    def _curl(self, words: list[str]) -> None:
        """The request that these arguments make; its answer has the shape of the one that the page shows."""
        options = {name: words[words.index(name) + 1] for name in ("-H", "-d")}
        address = next(word for word in words if word.startswith("http"))
        header, _, value = options["-H"].partition(": ")
        answer = httpx.post(address, content=options["-d"], headers={header: value}, timeout=60)
        assert answer.status_code == 200, answer.text
        assert self._answer is not None, f"{self._block.place}: expected the answer in a block after the request"
        assert shape(answer.json()) == shape(json.loads(self._answer.text))

    def _mlflow(self, words: list[str], environment: dict[str, str]) -> None:
        if "--port" in words:
            del words[words.index("--port") : words.index("--port") + 2]
        port = free_port()
        variables = os.environ | environment | {"PYTHONPATH": str(ROOT)}
        variables["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        arguments = [sys.executable, "-m", "mlflow", *words, "--port", str(port), "--workers", "1"]
        process = self._servers.enter_context(running(arguments, variables))
        place = "ping" if words[0] == "models" else ""
        wait_for(f"http://127.0.0.1:{port}/{place}", lambda: process.poll() is None, lambda: "see above")

    def _redis(self, words: list[str]) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("no redis-server on PATH: install Debian's package redis-server")
        port = free_port()
        self._ports["6379"] = port
        place = ("--port", str(port), "--bind", "127.0.0.1", "--dir", str(self._site.home), "--save", "")
        self._servers.enter_context(running([program, *words, *place], dict(os.environ)))


@contextmanager
def running(arguments: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process with its children, ended with the block."""
    process = subprocess.Popen(arguments, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, 15)
        process.wait(60)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def wait_for(address: str, runs: Callable[[], bool], said: Callable[[], str]) -> None:
    """Until the address answers with 200; AssertionError where the process ends or three minutes are over."""
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert runs(), said()
        try:
            if httpx.get(address, timeout=5, follow_redirects=True).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(f"{address} did not answer in three minutes")


def shape(value: object) -> object:
    """The keys and types of a JSON value; of a list, those of its first element."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def test_every_command_that_is_not_run_still_stands_on_a_page() -> None:
    all_commands = {
        " ".join(shlex.split(command, comments=True))
        for page in PAGES
        for block in all_blocks(page)
        if block.language == "sh"
        for command in commands(block)
    }
    assert set(NOT_RUN) <= all_commands
