"""The operations of the native client, as commands and calls of the RPC port. A map:

- :mod:`~raftkv.client.rpc.making`: values to commands, with the checks that the HTTP clients have too.
- :mod:`~raftkv.client.rpc.telling`: answers to values.
- :mod:`~raftkv.client.rpc.asking`: what the methods are built on: one write, one read, one call.
- :mod:`~raftkv.client.rpc.request`: what such a method hands to the pipeline; :mod:`~raftkv.client.rpc.batch`: writes
  of one turn that leave in one request.
- :mod:`~raftkv.client.rpc.gathering`: calls that were cut into several requests; :mod:`~raftkv.client.rpc.paging`:
  what comes page by page.
- :mod:`~raftkv.client.rpc.transactions`, :mod:`~raftkv.client.rpc.ranges`, :mod:`~raftkv.client.rpc.leases`: the
  methods themselves, by subject. :class:`raftkv.client.NativeClient` is made of them, and has those about single keys.

Sending, repeating and ending is the matter of :mod:`raftkv.client.pipeline`.
"""
