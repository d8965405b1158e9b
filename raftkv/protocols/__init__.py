"""Bytes and messages on one connection: framing, codecs, and the two ports that speak them.

- ``framing``: line-delimited msgpack, limits and time-outs of one connection.
- ``warnings``: log lines that strangers can cause, bounded.
- ``hello``: the first message both ways; who speaks, for what, in which version.
- ``codec``: the messages of Raft as msgpack values, and back, strictly.
- ``connecting``: one outgoing connection that comes back; a listening port that knows its connections.
- ``peer``: Raft traffic between members, on ``raft.bindAddr``; ``snapshots``: snapshot files on connections of their
  own, on the same port.
- ``rpc_frames``, ``rpc_errors``, ``command_rules``: what is said on ``rpcAddr``, and what is let in.
- ``rpc``: the server on ``rpcAddr``; ``rpc_client``: one connection to it; ``forwarding``: a pool of those, between
  nodes.
"""
