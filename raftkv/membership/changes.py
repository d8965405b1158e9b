"""What somebody wants to be different about the members, and the configuration that would follow.

Pure: requests as JSON brings them in, configurations out. Whether the cluster can afford the change, and when it is
done, is the business of ``service``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from raftkv.errors import BadRequest, Conflict, NotFound
from raftkv.raft.configuration import Configuration, Member

_MEMBER_FIELDS: Final = frozenset(("id", "raft_addr", "rpc_addr", "http_addr", "role"))
_CHANGE_FIELDS: Final = frozenset(("add", "remove", "promote", "demote", "force"))
_ID: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):([0-9]{1,5})")
_MAX_NAMED: Final = 64  # members in one list


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMember:
    """A member to add.

    :ivar role: what it is to be in the end; a voter begins as a learner that is being promoted. ``None`` makes a voter
        of a new member and leaves one that is there what it is: whoever only says that it is there, or where, must not
        become a voter by that (B25).
    """

    member: Member
    role: Literal["voter", "learner"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberChange:
    """Everything that one request asks for; it happens as a whole or not at all.

    :ivar force: whether it is to happen although the quorum would be lost.
    """

    add: tuple[NewMember, ...] = ()
    remove: tuple[str, ...] = ()
    promote: tuple[str, ...] = ()
    demote: tuple[str, ...] = ()
    force: bool = False


# -- reading a request ------------------------------------------------------------------------------------------------


def parse_change(document: Mapping[str, Any]) -> MemberChange:
    """Read the body of ``POST /v1/cluster/members``: one member to add, or lists of what is to be different.

    :raises BadRequest: a field is missing, unknown or wrong; the message names it.
    """
    if "id" in document:
        force = _flag(document)
        rest = {name: value for name, value in document.items() if name != "force"}
        return MemberChange(add=(_new_member(rest, ""),), force=force)
    _refuse_unknown(document, _CHANGE_FIELDS, "")
    added = document.get("add", ())
    if not isinstance(added, (list, tuple)):
        raise BadRequest("add: expected a list of members")
    if len(added) > _MAX_NAMED:
        raise BadRequest(f"add: {len(added)} members; at most {_MAX_NAMED} in one change")
    change = MemberChange(
        add=tuple(_new_member(item, f"add[{number}].") for number, item in enumerate(added)),
        remove=_names(document, "remove"),
        promote=_names(document, "promote"),
        demote=_names(document, "demote"),
        force=_flag(document),
    )
    _refuse_contradictions(change)
    return change


def _new_member(value: Any, where: str) -> NewMember:
    if not isinstance(value, Mapping):
        raise BadRequest(f"{where.rstrip('.')}: expected an object with id and raft_addr")
    _refuse_unknown(value, _MEMBER_FIELDS, where)
    role = value.get("role")
    if role not in ("voter", "learner") and "role" in value:
        raise BadRequest(f'{where}role: expected "voter" or "learner", found {str(role)[:80]!r}')
    member = Member(
        id=checked_id(value.get("id"), f"{where}id"),
        raft_addr=checked_address(value.get("raft_addr"), f"{where}raft_addr"),
        rpc_addr=checked_address(value.get("rpc_addr", ""), f"{where}rpc_addr", optional=True),
        http_addr=checked_address(value.get("http_addr", ""), f"{where}http_addr", optional=True),
    )
    return NewMember(member=member, role=role)


def checked_id(value: Any, field: str) -> str:
    """Return the id of a member.

    :raises BadRequest: it is none.
    """
    if value is None:
        raise BadRequest(f"{field}: missing")
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise BadRequest(
            f"{field}: expected 1 to 128 letters, digits, '.', '_' and '-', not beginning with '.' or '-', "
            f"found {str(value)[:80]!r}"
        )
    return value


def checked_address(value: Any, field: str, *, optional: bool = False) -> str:
    """Return an address that others can dial.

    :raises BadRequest: it is none.
    """
    if value is None or (value == "" and not optional):
        raise BadRequest(f"{field}: missing")
    if value == "":
        return ""
    found = _ADDRESS.fullmatch(value) if isinstance(value, str) and len(value) <= 512 else None
    if found is None or not 1 <= int(found[2]) <= 65535:
        raise BadRequest(f"{field}: expected host:port, found {str(value)[:80]!r}")
    return str(value)


def _names(document: Mapping[str, Any], field: str) -> tuple[str, ...]:
    value = document.get(field, ())
    if not isinstance(value, (list, tuple)):
        raise BadRequest(f"{field}: expected a list of member ids")
    if len(value) > _MAX_NAMED:
        raise BadRequest(f"{field}: {len(value)} members; at most {_MAX_NAMED} in one change")
    return tuple(checked_id(item, f"{field}[{number}]") for number, item in enumerate(value))


def _flag(document: Mapping[str, Any]) -> bool:
    value = document.get("force", False)
    if not isinstance(value, bool):
        raise BadRequest("force: expected true or false")
    return value


def _refuse_unknown(document: Mapping[str, Any], known: Collection[str], where: str) -> None:
    for name in document:
        if name not in known:
            raise BadRequest(f"{where}{str(name)[:80]}: unknown field; known here: {', '.join(sorted(known))}")


def _refuse_contradictions(change: MemberChange) -> None:
    seen: dict[str, str] = {}
    lists = {
        "add": tuple(new.member.id for new in change.add),
        "remove": change.remove,
        "promote": change.promote,
        "demote": change.demote,
    }
    for field, names in lists.items():
        for name in names:
            if name in seen:
                raise BadRequest(f"{field}: {name} is named in {seen[name]} already; one change can do one thing to it")
            seen[name] = field
    if not seen:
        raise BadRequest("nothing to change: expected id and raft_addr, or one of add, remove, promote, demote")


# -- what would follow ------------------------------------------------------------------------------------------------


def planned(change: MemberChange, configuration: Configuration, *, caught_up: Collection[str]) -> Configuration:
    """Return the configuration that a change leads to; the same one where there is nothing to do.

    A change that asks for what is so already is granted: whoever repeats a request after a time-out must not be told
    that it failed. Only removing who is not there is an error, for a mistyped name looks just like it.

    :param configuration: the one in force; not joint.
    :param caught_up: learners that may become voters at once; others that are to be promoted wait.
    :raises NotFound: it names somebody who is no member.
    :raises Conflict: a new member differs from one that is there, or nobody would be left to vote.
    """
    members, voters = dict(configuration.members), set(configuration.voters)
    learners, promoting = set(configuration.learners), set(configuration.promoting)
    for field in ("remove", "promote", "demote"):
        for name in getattr(change, field):
            if name not in members:
                raise NotFound(f"{field}: there is no member {name}")
    for name in change.remove:
        del members[name]
        for role in (voters, learners, promoting):
            role.discard(name)
    for new in change.add:
        _add(new, members, voters, learners, promoting)
    for name in change.promote:
        if name in learners and (change.force or name in caught_up):
            learners.discard(name)
            promoting.discard(name)
            voters.add(name)
        elif name in learners:
            promoting.add(name)
    for name in change.demote:
        voters.discard(name)
        promoting.discard(name)
        learners.add(name)
    if not voters:
        raise Conflict("nobody would be left to vote; a cluster needs at least one voter, with force too")
    return replace(
        configuration,
        members=members,
        voters=frozenset(voters),
        learners=frozenset(learners),
        promoting=frozenset(promoting),
    )


def _add(new: NewMember, members: dict[str, Member], voters: set[str], learners: set[str], promoting: set[str]) -> None:
    wanted = new.member
    known = members.get(wanted.id)
    if known is not None:
        members[wanted.id] = _same_member(known, wanted)
        if new.role == "voter" and wanted.id in learners:
            promoting.add(wanted.id)
        elif new.role == "learner" and (wanted.id in voters or wanted.id in promoting):
            raise Conflict(f"{wanted.id} is a voter already, or is being promoted; demote it to make it a learner")
        return
    _refuse_taken_address(wanted, members)
    members[wanted.id] = wanted
    learners.add(wanted.id)
    if new.role != "learner":
        promoting.add(wanted.id)


def _same_member(known: Member, wanted: Member) -> Member:
    """Return a member with what a repeated request knows besides.

    :raises Conflict: the request is about another one under this name.
    """
    if wanted.incarnation and known.incarnation and wanted.incarnation != known.incarnation:
        raise Conflict(
            f"{known.id} is a member already, with another data directory; remove that member first, "
            "or choose another raft.nodeID"
        )
    # Whoever proves by its incarnation to be the member may have moved; somebody else may not say so.
    is_itself = bool(wanted.incarnation) and wanted.incarnation == known.incarnation
    if wanted.raft_addr != known.raft_addr and not is_itself and known.raft_addr:
        raise Conflict(f"{known.id} is a member already, at {known.raft_addr}")
    return Member(
        id=known.id,
        incarnation=known.incarnation or wanted.incarnation,
        raft_addr=wanted.raft_addr or known.raft_addr,
        rpc_addr=wanted.rpc_addr or known.rpc_addr,
        http_addr=wanted.http_addr or known.http_addr,
    )


def taken_in(member: Member, configuration: Configuration) -> Configuration:
    """Return the next configuration on the way to one that holds this very node; the same one where that does.

    A stranger becomes a learner that is to be a voter. Where the name stands for another data directory, that one is
    gone: a voter has lost its disk, and its word is void (B24). It is replaced in two steps, each safe by itself. At
    first the old one stops to vote, by joint consensus, in which its name still stands for the old incarnation, so that
    the new one can speak for neither side; then the learner that is left gets the new incarnation. A founder whose
    incarnation the log does not know may have been anybody, and goes the same way.

    :param configuration: the one in force; not joint.
    :raises Conflict: nobody would be left to vote, or the address belongs to another member.
    """
    known = configuration.members.get(member.id)
    if known is None or known.incarnation == member.incarnation:
        return planned(MemberChange(add=(NewMember(member=member),)), configuration, caught_up=())
    if member.id in configuration.voters:
        demoted = planned(MemberChange(demote=(member.id,)), configuration, caught_up=())
        return replace(demoted, promoting=demoted.promoting | {member.id})
    _refuse_taken_address(member, configuration.members)
    return replace(configuration, members={**configuration.members, member.id: member})


def _refuse_taken_address(wanted: Member, members: Mapping[str, Member]) -> None:
    for other in members.values():
        if other.raft_addr == wanted.raft_addr and other.id != wanted.id:
            raise Conflict(f"raft_addr: {wanted.raft_addr} is the address of {other.id}")


def identified(member: Member, configuration: Configuration) -> Configuration:
    """Return a configuration with the incarnation and the addresses of a member that was added by name alone.

    :raises NotFound: there is no such member.
    :raises Conflict: another incarnation is known by now.
    """
    known = configuration.members.get(member.id)
    if known is None:
        raise NotFound(f"there is no member {member.id}")
    if known.incarnation not in ("", member.incarnation):
        raise Conflict(f"{member.id} is known with another data directory")
    return replace(configuration, members={**configuration.members, member.id: member})


def refuse_loss_of_quorum(target: Configuration, healthy: Collection[str]) -> None:
    """Refuse a change after which those who answer could decide nothing.

    :param healthy: members that were heard within an election timeout.
    :raises Conflict: less than a majority of the voters to be are healthy; the message names the others.
    """
    silent = sorted(target.voters - set(healthy))
    needed = len(target.voters) // 2 + 1
    if len(target.voters) - len(silent) < needed:
        raise Conflict(
            f"the quorum would be lost: of {len(target.voters)} voters {needed} are needed, and {', '.join(silent)} "
            "do not answer; force makes the change all the same"
        )
