"""README and the pages of docs/ as tests read them: code blocks, links, headings, sentences."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").glob("*.md")))
LINKED = (
    *PAGES,
    ROOT / "README.zh-CN.md",
    ROOT / "CHANGELOG.md",
    ROOT / "SECURITY.md",
    ROOT / "benchmarks" / "RESULTS.md",
    ROOT / "mlruns" / "README.md",
)
FENCE = re.compile(r"^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
INDENTED = re.compile(r"(?:^(?: {4}.*)?\n)+", re.MULTILINE)
INLINE_CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]\n]*(?:\n[^\]\n]*)?\]\((?P<target>[^)\s]+)\)")
SENTENCE_END = re.compile(r"(?<=[.?!:])\s+|\n\s*\n|\n(?=\s*[-|\d#])|\|")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. line: of its first line of text, from 1."""

    page: Path
    language: str
    text: str
    line: int

    @property
    def place(self) -> str:
        """Where it stands, `docs/tables.md:17`."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def read(page: Path) -> str:
    """The text of a page."""
    return page.read_text(encoding="utf-8")


def all_blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = read(page)
    return [
        Block(page, match["language"], match["text"], text.count("\n", 0, match.start()) + 2)
        for match in FENCE.finditer(text)
    ]


def blocks(page: Path, language: str) -> list[Block]:
    """The fenced blocks of a page in one language, in order."""
    return [block for block in all_blocks(page) if block.language == language]


def commands(block: Block) -> list[str]:
    """The commands of a block: one a line; a line that ends with a backslash, or leaves a quote open, goes on."""
    found: list[str] = []
    pending = ""
    for line in block.text.splitlines():
        pending += line
        if pending.endswith("\\"):
            pending = pending[:-1]
        elif pending.count("'") % 2 == 0:
            if pending.strip() and not pending.lstrip().startswith("#"):
                found.append(pending.strip())
            pending = ""
        else:
            pending += "\n"
    return found


def inline_code(page: Path) -> list[str]:
    """What stands between single backquotes outside of blocks."""
    return INLINE_CODE.findall(FENCE.sub("", read(page)))


def links(page: Path) -> list[str]:
    """Targets of the links of a page, outside of blocks."""
    return [match["target"] for match in LINK.finditer(FENCE.sub("", read(page)))]


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", read(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def sentences(page: Path) -> list[str]:
    """Sentences and table cells of a page, outside of blocks, in lower case without punctuation and markup."""
    prose = INDENTED.sub("\n", FENCE.sub("", read(page)))
    parts = (re.sub(r"[^\w ]", " ", part.lower()) for part in SENTENCE_END.split(prose))
    return [" ".join(part.split()) for part in parts if part.strip()]
