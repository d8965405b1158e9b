"""Do the tests bite? Each rule that raftkv lives by is broken on purpose, in a copy, and some test has to notice.

- ``mutant``: one deliberate violation, as a small change to the source, and how it is applied to a copy of the tree.
- ``elections``, ``replication``, ``leadership``, ``reads``, ``durability``, ``snapshots``, ``state_machine``,
  ``services``: the violations, by the rule that they break; ``catalogue`` gathers them.
- ``checks``: what is run against a copy, and how a catch is told from a pass.
- ``trying``: tries many mutants side by side, and keeps what it learned in a file so that it can go on later.
- ``report``: the table.

``python -m tests.mutants`` runs them; nothing here is a switch in the product, and trial collects nothing from here.
"""
