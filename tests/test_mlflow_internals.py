"""What MLflow does not promise: it stands in one module, and the installed version still has it."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from documents import ROOT
from mlflow.data.meta_dataset import MetaDataset

from recsys.mlflow_internals import names

MODULE = ROOT / "recsys" / "mlflow_internals" / "names.py"
DOCUMENTED = (
    "mlflow",
    "mlflow.artifacts",
    "mlflow.data.meta_dataset",
    "mlflow.entities",
    "mlflow.entities.model_registry",
    "mlflow.environment_variables",
    "mlflow.exceptions",
    "mlflow.models",
    "mlflow.models.evaluation",
    "mlflow.pyfunc",
    "mlflow.types",
    "mlflow.types.schema",
)
"""Modules of MLflow's Python API reference, and of its page on plugins."""


def imported(path: Path) -> Iterator[str]:
    """The modules of MLflow that a file imports, and private names that it takes from them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "mlflow")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mlflow":
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names if alias.name.startswith("_"))


def test_only_one_module_imports_what_mlflow_does_not_document() -> None:
    files = [path for package in ("features", "recsys", "pipelines") for path in (ROOT / package).rglob("*.py")]
    undocumented = {
        (str(path.relative_to(ROOT)), name)
        for path in files
        if path != MODULE
        for name in imported(path)
        if name not in DOCUMENTED
    }
    assert undocumented == set()
    assert set(imported(MODULE)) - set(DOCUMENTED)


def test_the_tags_are_those_that_mlflow_writes_and_its_pages_read() -> None:
    assert (names.PARENT_RUN, names.MODEL_VERSIONS) == ("mlflow.parentRunId", "mlflow.modelVersions")
    pages = (Path(mlflow.__file__).parent / "server" / "js" / "build" / "static" / "js").glob("main.*.js")
    assert any(names.PRIMARY_METRIC in page.read_text(encoding="utf-8") for page in pages)


def test_a_data_set_of_a_folder_is_an_input_with_its_context(tmp_path: Path) -> None:
    dataset = MetaDataset(names.folder_source(tmp_path), name="site, test: user cold", digest="0" * 36)
    entity = names.dataset_input(dataset, "test")
    assert json.loads(entity.dataset.source) == {"uri": tmp_path.resolve().as_uri()}
    assert (entity.dataset.name, entity.dataset.digest) == ("site, test: user cold", "0" * 36)
    assert {tag.key: tag.value for tag in entity.tags} == {"mlflow.data.context": "test"}


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".html"])
def test_a_logged_file_is_an_artifact_of_mlflows_result(suffix: str, tmp_path: Path) -> None:
    path, table = tmp_path / f"file{suffix}", pd.DataFrame({"a": [1, 2]})
    if suffix == ".parquet":
        table.to_parquet(path)
    elif suffix == ".csv":
        table.to_csv(path, index=False)
    else:
        path.write_text("text")
    artifact = names.evaluation_artifact(path, "file:///run/file")
    assert artifact.uri == "file:///run/file"
    assert artifact.content == "text" if suffix == ".html" else artifact.content["a"].tolist() == [1, 2]
