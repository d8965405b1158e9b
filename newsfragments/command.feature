The ``raftkv`` command shows a cluster (``status``), reads and writes keys (``get``, ``set``, ``delete``) and starts a local cluster (``cluster``).
