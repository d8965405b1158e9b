Small writes are quicker: a follower waits for its disk where it stands while that has been quick on the average
(``raft.quickSync``), acknowledges before it applies, and the reactor does less around each event. A lone put takes a fifth less
processor time of the three nodes together, and about an eighth less time.
