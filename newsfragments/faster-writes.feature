Writes are faster: a lone write costs a quarter less processor time on every node, 64 at a time a fifth. Followers hear of a commit with the next
entries, or within four milliseconds.
