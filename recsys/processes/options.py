"""What a server serves, as each of its processes is told; imports no model library."""

from __future__ import annotations

from dataclasses import dataclass

from recsys.serving.traffic import ChallengerOptions
from recsys.settings.serving import ServingConfig


@dataclass(frozen=True)
class ServerOptions:
    """What a server serves. model_uri: names its versions. store: folder or `redis://` URL of the online store. create:
    begin with an empty one where there is none. keys: file or URL of the API keys that requests have to bring, None for
    none. custom_code: execute a version's file of custom features; otherwise such a version is refused. challenger:
    None for none. json_logs: log one JSON object a line.
    """

    model_uri: str
    store: str
    settings: ServingConfig
    create: bool = False
    keys: str | None = None
    custom_code: bool = True
    challenger: ChallengerOptions | None = None
    json_logs: bool = False
