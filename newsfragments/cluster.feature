A cluster of three nodes that survives the loss of any one of them: linearizable reads and writes over HTTP, from any node. ``make cluster`` starts one.
