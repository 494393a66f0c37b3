"""README and docs/: links lead somewhere, pages begin with their question, nothing is said twice, names exist."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import click
import pytest
from documents import LINKED, PAGES, README, ROOT, all_blocks, anchors, inline_code, links, read, sentences

from pipelines import cli
from recsys.config import Config, ConfigSection

FEWEST_WORDS = 6
"""Shorter sentences and table cells may stand twice."""
FILE_ENDINGS = (".py", ".md", ".txt", ".json", ".csv")
NOT_SETTINGS = {
    "encoder.tokens": "a metric of a run",
    "encoder.tokens_unknown": "a metric of a run",
    "encoder.texts_truncated": "a metric of a run",
    "promotion.outcome": "a tag of a version",
    "data.name": "a tag of a run",
    "data.fingerprint": "a tag of a run",
    "encoder.fingerprint": "a tag of a run",
    "ranker.fingerprint": "a tag of a run",
    "features.definitions.custom": "a module",
}


def ids(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", LINKED, ids=ids)
def test_every_link_leads_to_a_file_and_its_anchor_to_a_heading(page: Path) -> None:
    for target in links(page):
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        assert path.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(path), target


@pytest.mark.parametrize("page", PAGES[1:], ids=ids)
def test_every_page_begins_with_the_question_that_it_answers_and_is_linked_from_the_readme(page: Path) -> None:
    title, question = [line for line in read(page).splitlines() if line][:2]
    assert title.startswith("# ")
    assert question.rstrip("*").endswith("?")
    assert ids(page) in {link.partition("#")[0] for link in links(README)}


def test_no_sentence_stands_twice() -> None:
    counts = Counter(sentence for page in PAGES for sentence in sentences(page))
    twice = [sentence for sentence, n in counts.items() if n > 1 and len(sentence.split()) >= FEWEST_WORDS]
    assert twice == []


def test_the_readme_names_every_file_and_folder_that_its_map_shows() -> None:
    lines = read(README).partition("## Where things are")[2].partition("## ")[0].splitlines()
    folders: dict[int, str] = {}
    for line in lines:
        entry = re.match(r"(?P<indent> {4,})(?P<folder>\w+/)", line)
        if entry is None:
            continue
        depth = len(entry["indent"])
        folders = {level: name for level, name in folders.items() if level < depth} | {depth: entry["folder"]}
        here = ROOT / "".join(name for _, name in sorted(folders.items()))
        assert here.is_dir(), line
        for name in re.findall(r"\b\w+\.py\b", line):
            assert list(here.rglob(name)), (line, name)


def test_the_map_has_every_package_of_the_tree() -> None:
    map_text = read(README).partition("## Where things are")[2].partition("## ")[0]
    for root in ("features", "recsys", "pipelines"):
        for init in (ROOT / root).rglob("__init__.py"):
            assert f"{init.parent.name}/" in map_text, init.parent


def options_of(words: list[str]) -> set[str]:
    """Options of the command that these words begin with; the group's own where they name no command."""
    command: click.Command = cli.cli
    for word in words:
        if not isinstance(command, click.Group):
            break
        assert word in command.commands, f"no command {word!r}"
        command = command.commands[word]
    return {name for parameter in command.params for name in parameter.opts} | {"--help", "--version"}


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_command_within_a_sentence_exists_with_its_options(page: Path) -> None:
    for code in inline_code(page):
        if not code.startswith("recsys "):
            continue
        words = code.split()[1:]
        named = [word for word in words if re.fullmatch(r"[a-z-]+", word) and not word.startswith("-")]
        options = options_of(named)
        assert {word.partition("=")[0] for word in words if word.startswith("--")} <= options, code


def settings(section: type[ConfigSection] = Config, prefix: str = "") -> set[str]:
    """Every key of the configuration, `encoder.max_tokens`."""
    found: set[str] = set()
    for name, field in section.model_fields.items():
        found.add(prefix + name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, ConfigSection):
            found |= settings(field.annotation, f"{prefix}{name}.")
    return found


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    sections = {name.partition(".")[0] for name in settings() if "." in name}
    pattern = re.compile(rf"(?:--set[ =]'?|`)((?:{'|'.join(sections)})(?:\.[a-z_]+)+)[:=`]")
    named = {match for match in pattern.findall(read(page)) if not match.endswith(FILE_ENDINGS)}
    assert named - set(NOT_SETTINGS) <= settings()


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_file_of_the_project_that_a_page_names_exists(page: Path) -> None:
    roots = "features|recsys|pipelines|tests|benchmarks|docs|deploy"
    for code in inline_code(page):
        path = re.search(rf"(?<![\w/.])(?:{roots})/[\w/.]*\w", code)
        if path is not None and "NAME" not in code and "*" not in code:
            assert (ROOT / path[0]).exists(), code


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_every_block_says_what_it_is_so_that_commands_and_snippets_are_run(page: Path) -> None:
    """`sh` and `python` run in tests/test_documented_commands.py, `json` is an answer, `text` an output."""
    text = read(page)
    assert {block.language for block in all_blocks(page)} <= {"sh", "python", "json", "text"}
    assert len(re.findall(r"^ *```", text, re.MULTILINE)) == 2 * len(all_blocks(page))
    assert page == README or not re.search(r"^ {4}recsys ", text, re.MULTILINE)


def test_the_chinese_readme_has_the_same_code_links_and_sections() -> None:
    chinese = ROOT / "README.zh-CN.md"
    code = [[(block.language, block.text) for block in all_blocks(page)] for page in (README, chinese)]
    assert code[0] == code[1]
    other = {"README.md", "README.zh-CN.md"}
    assert sorted(set(links(chinese)) - other) == sorted(set(links(README)) - other)
    for pattern in (r"^#+ ", r"^\| ", r"^ {4}.*$"):
        found = [re.findall(pattern, read(page), re.MULTILINE) for page in (README, chinese)]
        assert found[0] == found[1], pattern
