"""Answers that have no model in `recsys.serving.schemas`: their routes build them from what they hold."""

from __future__ import annotations

from pydantic import ConfigDict

from recsys.serving.schemas import Answer, ModelVersions


class Ready(Answer):
    """What `/health/ready` says of a server that can answer; further fields are attributes too."""

    model_config = ConfigDict(extra="allow")

    status: str
    model: ModelVersions


class DeletedItem(Answer):
    """An item that was removed. deleted: whether there was one."""

    item_id: str
    deleted: bool = True


class ForgottenUser(Answer):
    """An erasure. forgotten: whether anything was known of the user."""

    user_id: str
    forgotten: bool
