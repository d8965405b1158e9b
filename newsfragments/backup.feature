``POST /v1/snapshots`` takes a snapshot and answers once it is on disk and has been read back, ``GET /v1/snapshots`` lists them,
and ``GET /v1/snapshots/latest`` gives one away as a backup (``?fresh=true`` takes one first), with its revision and checksum in
the headers. A download that breaks goes on with ``Range``, and a snapshot that is being fetched is not removed.
