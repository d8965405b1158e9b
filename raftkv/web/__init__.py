"""The HTTP API: JSON over HTTP/1.1, one port a node.

From the outside in:

- :mod:`~raftkv.web.service`: :class:`HttpService`, which listens and lets go.
- :mod:`~raftkv.web.site`: :class:`ApiSite`, the connections of one node: how many, how long, how much memory.
- :mod:`~raftkv.web.connection`: one connection; :mod:`~raftkv.web.framing` reads its bytes,
  :mod:`~raftkv.web.request` is a request of ``twisted.web`` on it, :mod:`~raftkv.web.heads` the heads of answers.
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
