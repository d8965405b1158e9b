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
- :mod:`~raftkv.web.app`: :class:`Api`, where the routes are declared, and the Klein application made of them.
- :mod:`~raftkv.web.operations` (keys) and :mod:`~raftkv.web.health` (the node): what each route does, given an
  :mod:`~raftkv.web.exchange`; :mod:`~raftkv.web.parameters` and :mod:`~raftkv.web.documents` check what came.
- :mod:`~raftkv.web.errors`: the one table from exceptions to status codes; :mod:`~raftkv.web.failures` applies it.
- :mod:`~raftkv.web.metrics`, :mod:`~raftkv.web.settings`.
"""

from raftkv.web.app import Api
from raftkv.web.service import HttpService
from raftkv.web.settings import WebSettings
from raftkv.web.site import ApiSite

__all__ = ["Api", "ApiSite", "HttpService", "WebSettings"]
