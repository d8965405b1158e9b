"""The HTTP API: JSON over HTTP/1.1, one port a node.

From the outside in:

- :mod:`~raftkv.web.service`: :class:`HttpService`, which listens and lets go.
- :mod:`~raftkv.web.site`: :class:`ApiSite`, the connections of one node: how many, how long, how much memory.
- :mod:`~raftkv.web.connection`: one connection, which serves and answers; built on :mod:`~raftkv.web.reading`, from
  bytes to requests, and that on :mod:`~raftkv.web.stream`, which knows when to send, to pause and to give up.
- :mod:`~raftkv.web.framing` and :mod:`~raftkv.web.bodies`: the syntax of what comes; :mod:`~raftkv.web.heads`: the
  heads of answers; :mod:`~raftkv.web.request`: a request of ``twisted.web``, for what has no fast lane.
- :mod:`~raftkv.web.streaming`: answers whose body comes in pieces, on either lane; :mod:`~raftkv.web.requestbody`
  carries them on a request of ``twisted.web``.
- :mod:`~raftkv.web.app`: :class:`Api`, the whole of it, and the Klein application; :mod:`~raftkv.web.routes`, where
  the routes are declared.
- What the routes do, given an :mod:`~raftkv.web.exchange`: :mod:`~raftkv.web.operations` (single keys),
  :mod:`~raftkv.web.ranges` with :mod:`~raftkv.web.rangereading` and :mod:`~raftkv.reading.turns`,
  :mod:`~raftkv.web.transactions`, :mod:`~raftkv.web.leases`, :mod:`~raftkv.web.locks`, :mod:`~raftkv.web.elections`,
  :mod:`~raftkv.web.health` (the node) and :mod:`~raftkv.web.members`. All of the store goes through
  :mod:`~raftkv.web.access`.
- What came, checked: :mod:`~raftkv.web.parameters` (headers, keys), :mod:`~raftkv.web.queries`,
  :mod:`~raftkv.web.documents` (JSON, both ways), and :mod:`~raftkv.web.pages` (``continue``).
- :mod:`~raftkv.web.streaming`: answers in pieces; :mod:`~raftkv.web.requestbody`: the same for ``twisted.web``.
- :mod:`~raftkv.web.errors`: the one table from exceptions to status codes; :mod:`~raftkv.web.failures` applies it.
- :mod:`~raftkv.web.metrics`, :mod:`~raftkv.web.settings`.
"""

from raftkv.web.app import Api
from raftkv.web.service import HttpService
from raftkv.web.settings import WebSettings
from raftkv.web.site import ApiSite

__all__ = ["Api", "ApiSite", "HttpService", "WebSettings"]
