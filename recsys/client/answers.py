"""What `/health/ready` answers: the server makes it of what it holds, so that it has no model of its own there."""

from __future__ import annotations

from pydantic import ConfigDict

from recsys.serving.schemas import Answer, ModelVersions


class ReadyChallenger(Answer):
    """The challenger of a server. share: of the users whom it answers. shadow: whether it scores in the background."""

    model: ModelVersions
    model_from: str
    share: float
    shadow: bool


class Ready(Answer):
    """A server that can answer; further fields are attributes too."""

    model_config = ConfigDict(extra="allow")

    status: str
    model: ModelVersions
    challenger: ReadyChallenger | None = None
