A start that takes long tells in the log how much of the log is read, how much of the snapshot is restored, and how many entries are applied.
