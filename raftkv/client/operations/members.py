"""The operations on nodes and on the cluster: what they are, who they are, who is to be in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from raftkv.client.answers import Fields, fields_of
from raftkv.client.operations.base import JSON_HEADERS, Operation
from raftkv.client.results import Cluster, Member, Status


def status() -> Operation[Status]:
    """Ask a node about itself."""
    return Operation(method="GET", target="/v1/status", read=lambda answer: _read_status(fields_of(answer)))


def cluster() -> Operation[Cluster]:
    """Ask who is in the cluster."""
    return Operation(
        method="GET", target="/v1/cluster", read=lambda answer: _read_cluster(fields_of(answer)), prefer_leader=True
    )


def change_members(document: Mapping[str, Any]) -> Operation[Cluster]:
    """Make a change of the members.

    :param document: the body of ``POST /v1/cluster/members``.
    """
    return Operation(
        method="POST",
        target="/v1/cluster/members",
        headers=JSON_HEADERS,
        body=json.dumps(document).encode(),
        read=lambda answer: _read_cluster(fields_of(answer)),
        is_write=True,
        prefer_leader=True,
    )


def transfer_leadership(to: str | None = None) -> Operation[str]:
    """Make a transfer of leadership; its result is who leads then.

    :param to: the member that is to lead; ``None`` leaves the choice to the leader.
    """
    return Operation(
        method="POST",
        target="/v1/cluster/transfer-leadership",
        headers=JSON_HEADERS,
        body=json.dumps({} if to is None else {"to": to}).encode(),
        read=lambda answer: fields_of(answer).text("leader"),
        is_write=True,
        prefer_leader=True,
    )


def _read_status(body: Fields) -> Status:
    alarms = body.raw.get("alarms")
    return Status(
        node_id=body.text("node_id"),
        cluster_id=body.text("cluster_id"),
        role=body.text("role"),
        term=body.integer("term"),
        leader=body.text("leader") if body.has("leader") else None,
        commit_index=body.integer("commit_index"),
        applied_index=body.integer("applied_index"),
        first_index=body.integer("first_index"),
        last_index=body.integer("last_index"),
        snapshot_index=body.integer("snapshot_index"),
        revision=body.integer("revision"),
        compact_revision=body.integer("compact_revision"),
        keys=body.integer("keys"),
        digest=body.text("digest"),
        uptime=body.number("uptime"),
        version=body.text("version"),
        alarms=tuple(alarms) if isinstance(alarms, list) else (),
        raw=body.raw,
    )


def _read_cluster(body: Fields) -> Cluster:
    return Cluster(
        cluster_id=body.text("cluster_id"),
        leader=body.text("leader") if body.has("leader") else None,
        term=body.integer("term"),
        members=tuple(_read_member(member) for member in body.objects("members")),
        raw=body.raw,
    )


def _read_member(body: Fields) -> Member:
    return Member(
        id=body.text("id"),
        raft_addr=body.text("raft_addr"),
        rpc_addr=body.text("rpc_addr"),
        http_addr=body.text("http_addr"),
        role=body.text("role"),
        leader=body.boolean("leader"),
        match_index=body.integer("match_index") if body.has("match_index") else None,
        healthy=body.boolean("healthy") if body.has("healthy") else None,
        last_contact=body.number("last_contact") if body.has("last_contact") else None,
        promoting=body.raw.get("promoting") is True,
    )
