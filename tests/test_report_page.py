"""The HTML report: one file that needs nothing else, every section, the report's numbers, and data as text only."""

from __future__ import annotations

import dataclasses
import html
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import mlflow
import numpy as np
import pytest
from trained_site import TrainedSite

from features.log import Impressions, Requests
from recsys.config import EvaluationConfig as EvaluationSettings
from recsys.evaluation.evaluate import evaluate
from recsys.evaluation.examples import Example, ExampleItem, ListExamples, RankChange
from recsys.evaluation.report import Evaluation, format_interval
from recsys.metrics.bootstrap import Interval
from recsys.metrics.calibration import Bin, Calibration
from recsys.ranker.shap import ColumnContribution, ShapSummary
from recsys.report.content import Curve, CurvePoint, Gains, ReportData, primary_comparison, slice_comparison
from recsys.report.page import report_page
from recsys.report.sections import SECTIONS

NAN = float("nan")
HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)> & \"q\""
CHINESE, ARABIC = "为什么火箭要等月亮升起", "لماذا ينتظر الصاروخ طلوع القمر"
LONG = "Averyveryverylongwordwithoutanyspaces_" * 4
MOST_BYTES = 3_000_000


def small_evaluation() -> Evaluation:
    """Sixty lists of twenty users; `ranker` knows the click, `behaviour` half the time."""
    random = np.random.default_rng(0)
    n, size = 60, 8
    label = np.zeros((n, size), np.int8)
    label[np.arange(n), random.integers(0, size, n)] = 1
    user = (np.arange(n) % 20).astype(np.int32)
    items = np.tile(np.arange(size, dtype=np.int32), n)
    requests = Requests(user, np.arange(n, dtype=np.int64), np.arange(0, n * size + 1, size, dtype=np.int64), items)
    ids = np.array([f"{HOSTILE} {i}" for i in range(n)], object)
    shown = Impressions(requests, ids, np.zeros(n, bool), label.ravel(), np.zeros(n * size, np.int32))
    noise = random.random(n * size)
    methods = {"random": noise, "behaviour": noise + 0.5 * label.ravel(), "ranker": noise + label.ravel()}
    return evaluate(
        methods,
        shown,
        np.array([f"u{i:02d}" for i in range(20)], object),
        item_clicks_before=np.tile(np.arange(size), n),
        user_clicks_before=user.astype(float),
        settings=EvaluationSettings(resamples=100),
        seed=0,
    )


def example(change: float) -> Example:
    titles = [
        ExampleItem(f"i{k}", title, clicked=k == 1) for k, title in enumerate((HOSTILE, CHINESE, ARABIC, "", LONG))
    ]
    moved = (RankChange(titles[1], 7, 2),)
    recent, top = tuple(titles[:3]), tuple(titles)
    return Example(HOSTILE, 10**15, 20, 0.5 - change / 2, 0.5 + change / 2, recent, 30, top, top[::-1], moved)


def full_content() -> ReportData:
    evaluation = small_evaluation()
    lift = primary_comparison(evaluation)
    assert lift is not None
    lists = evaluation.per_impression_frame()
    lists["category"] = np.where(np.arange(len(lists)) % 2, HOSTILE.replace("|", " "), CHINESE)
    points = tuple(CurvePoint(2.0 / (i + 1), 0.3 + 0.01 * i, "head" if i < 3 else "fine_tune") for i in range(6))
    trees = tuple(CurvePoint(NAN, 0.4 + 0.1 * np.sin(i / 50)) for i in range(400))
    names = [f"item_clicks_{k}_percentile_of_something_long" for k in range(40)]
    size = Interval(0.018, 0.017, 0.019)
    return ReportData(
        title=f"{HOSTILE}: training report",
        subtitle="Run 3b9223688cd64f8fabb0df0e6586da88.",
        summary=(("items", "1,234"), ("fingerprint", "f" * 32), (HOSTILE, HOSTILE)),
        evaluation=evaluation,
        comparison=lift,
        slices=slice_comparison(lists, lift, resamples=100, seed=0),
        curves=(Curve("Encoder", "epoch", points, 900, 100), Curve("Ranker", "tree", trees, 500, 90)),
        gains=Gains({name: 40.0 - k for k, name in enumerate(names)}, 9000, 400),
        contributions=ShapSummary(
            tuple(ColumnContribution(name, size, (-1) ** k * 0.7 if k else NAN) for k, name in enumerate(names)),
            2000,
            80,
        ),
        calibration=Calibration(
            tuple(Bin(p, Interval(p + 0.01, p - 0.02, p + 0.05), 500) for p in (0.01, 0.04, 0.2)),
            0.01, 0.05, 40, 40, 15, 1500, 12,
        ),
        calibrated="ranker",
        examples=ListExamples((example(0.4),), (example(-0.3),), 20, 10, 30),
        notes=(HOSTILE,),
    )  # fmt: skip


@pytest.fixture(scope="module")
def full_page() -> str:
    return report_page(full_content())


class Reader(HTMLParser):
    """Every tag with its attributes, every id, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def check_stands_alone(text: str) -> None:
    """Well-formed, small, no script, and nothing that a browser would fetch."""
    reader = Reader(text)
    assert not reader.open
    assert len(text.encode()) < MOST_BYTES
    assert not {tag for tag, _ in reader.tags} & {"script", "img", "link", "iframe", "object", "base", "form"}
    for tag, attributes in reader.tags:
        for name, value in attributes.items():
            assert not name.startswith("on"), (tag, name)
            if name in ("href", "src", "srcset", "data", "action", "xlink:href"):
                assert value is not None and value.startswith("#"), (tag, name, value)
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style and "@import" not in style
    anchors = {attributes["href"][1:] for tag, attributes in reader.tags if tag == "a"}  # type: ignore[index]
    assert anchors <= {attributes.get("id") for _, attributes in reader.tags}


def test_the_page_is_one_file_that_refers_to_nothing_outside(full_page: str) -> None:
    check_stands_alone(full_page)


def test_what_comes_from_the_data_is_text_and_stays_as_it_was(full_page: str) -> None:
    assert "<script" not in full_page and "<img" not in full_page
    text = Reader(full_page).text
    assert text.count(HOSTILE) > 10  # title, facts, notes, category, impression, titles
    assert CHINESE in text and ARABIC in text
    assert f'<bdi dir="auto" lang="">{ARABIC}</bdi>' in full_page


def test_every_section_is_there_and_an_empty_one_is_not(full_page: str) -> None:
    assert re.findall(r'<section id="(\w+)"', full_page) == [section.key for section in SECTIONS]
    content = full_content()
    bare = report_page(ReportData("t", "s", (), content.evaluation))
    assert re.findall(r'<section id="(\w+)"', bare) == ["results", "lifts", "cold"]
    check_stands_alone(bare)


def test_numbers_are_those_of_the_report(full_page: str) -> None:
    evaluation = full_content().evaluation
    check_numbers(full_page, evaluation.as_dict())
    assert "60 lists of 20 users" in Reader(full_page).text


def check_numbers(text: str, report: dict) -> None:  # type: ignore[type-arg]
    """Every interval of the report stands in the page as the text report writes it."""
    words = Reader(text).text
    for methods in (report["test"], report["cold_items"], report["cold_users"]):
        for name, metrics in methods.items():
            shown = metrics.items() if methods is report["test"] else ()
            if name != "n" and methods is not report["test"]:
                shown = [("ndcg_at_10", metrics["ndcg_at_10"])]
            for _, value in shown:
                assert format_interval(interval_of(value)) in words
    for value in report["lift"].values():
        assert format_interval(interval_of(value), signed=True) in words


def interval_of(value: dict[str, float | None]) -> Interval:
    return Interval(*(NAN if value[name] is None else value[name] for name in ("mean", "low", "high")))  # type: ignore[arg-type]


def test_a_training_logs_its_page(trained: TrainedSite) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(run_id=trained.report.usage.run_id, artifact_path="report.html"))
    text = folder.read_text(encoding="utf-8")
    check_stands_alone(text)
    assert re.findall(r'<section id="(\w+)"', text) == [section.key for section in SECTIONS]
    report = trained.report.as_dict()
    check_numbers(text, report)
    shown = Reader(text).text
    assert report["models"]["ranker"] in shown and report["run_id"] in shown
    assert f"{report['data']['impressions']:,}" in shown
    tested = report["tested"]
    assert f"{tested['lists']} lists of {tested['users']} users" in shown


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)
MEASURE = """
<script>
onload = () => {
  const page = document.querySelector("iframe").contentDocument, wide = [];
  for (const one of page.querySelectorAll("body *")) {
    if (one.closest("svg") && one.tagName !== "svg") continue;
    if (one.closest("thead")) continue;
    const box = one.getBoundingClientRect();
    if (box.right > page.documentElement.clientWidth + 0.5) wide.push(one.tagName + "." + one.getAttribute("class"));
  }
  document.body.textContent = "measured " + page.documentElement.scrollWidth + " " + wide.join(" ");
};
</script>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH to lay the page out in")
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_is_wider_than_the_screen(width: int, full_page: str, tmp_path: Path) -> None:
    assert CHROMIUM is not None
    frame = f'<iframe style="border:0;width:{width}px;height:800px" srcdoc="{html.escape(full_page)}"></iframe>'
    path = tmp_path / "frame.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><body>{frame}{MEASURE}", encoding="utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    measured = re.search(r"measured (\d+) ([^<]*)", done.stdout)
    assert measured, done.stderr[-2000:]
    assert (int(measured[1]), measured[2].strip()) == (width, "")


def test_content_without_a_lift_has_neither_slices_nor_examples() -> None:
    content = dataclasses.replace(full_content(), comparison=None)
    found = re.findall(r'<section id="(\w+)"', report_page(content))
    assert "slices" not in found and "examples" not in found
