"""Our links to the other members: they are opened and closed as members come, move and go."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from raftkv.interfaces import Identity
from raftkv.protocols.peer.acquaintances import Acquaintances
from raftkv.protocols.peer.outgoing import PeerLink
from raftkv.protocols.peer.settings import PeerSettings
from raftkv.protocols.presence import Presence
from raftkv.protocols.warnings import RateLimitedLog


class Links:
    """The links of one node, while its service runs.

    :ivar open: the link to each peer, by its name.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        acquaintances: Acquaintances,
        connect: Callable[[str], IStreamClientEndpoint],
        settings: PeerSettings,
        clock: IReactorTime,
        random: Random,
        warnings: RateLimitedLog,
        unreachable: Callable[[str], None],
        presence: Presence,
    ) -> None:
        """Take what is needed.

        :param connect: makes an endpoint for a ``host:port``, or raises :exc:`ValueError` for what is none.
        :param unreachable: called with a peer when what is sent to it begins to be lost.
        :param presence: told of each good connection.
        """
        self.open: dict[str, PeerLink] = {}
        self._identity = identity
        self._acquaintances = acquaintances
        self._connect = connect
        self._settings = settings
        self._clock = clock
        self._random = random
        self._warnings = warnings
        self._unreachable = unreachable
        self._presence = presence
        self._closing: set[Deferred[None]] = set()

    def connect_members(self) -> None:
        """Have a link to each member at the address where it can be reached, and to nobody else."""
        for peer, link in list(self.open.items()):
            if self._acquaintances.addresses.get(peer) != link.address:
                self.disconnect(peer)
            else:
                link.look_again()
        for peer, address in self._acquaintances.addresses.items():
            if peer not in self.open:
                self.open_link(peer, address)

    def open_link(self, peer: str, address: str) -> PeerLink | None:
        """Connect to somebody at an address; return ``None`` where it is none."""
        endpoint = self.endpoint(peer, address)
        if endpoint is None:
            return None
        link = self.open[peer] = PeerLink(
            peer=peer,
            address=address,
            is_member=self._acquaintances.is_member,
            endpoint=endpoint,
            identity=self._identity,
            settings=self._settings,
            clock=self._clock,
            random=self._random,
            warnings=self._warnings,
            learned=self._acquaintances.learn,
            unreachable=self._unreachable,
            presence=self._presence,
        )
        link.start()
        return link

    def endpoint(self, peer: str, address: str) -> IStreamClientEndpoint | None:
        """Return the way to somebody; ``None`` where there is none."""
        try:
            return self._connect(address)
        except ValueError as reason:
            # A stranger may call itself what it likes; who has no address cannot be answered, that is all.
            self._warnings.warn("there is no way to {peer}: {reason}", peer=peer, reason=reason)
            return None

    def disconnect(self, peer: str) -> None:
        """Close the link to somebody."""
        closing = self.open.pop(peer).stop()
        self._closing.add(closing)
        # Chained behind gatherResults of stopService, which may wait for the same Deferred.
        closing.addBoth(self._link_closed, closing)

    def close_all(self) -> list[Deferred[None]]:
        """Close every link; each fires once nothing of it is left, those included that were closing."""
        for peer in list(self.open):
            self.disconnect(peer)
        return list(self._closing)

    def _link_closed(self, result: None, closing: Deferred[None]) -> None:
        self._closing.discard(closing)
