"""``python -m raftkv.cli``: the same as the ``raftkv`` command, where no script is on the path."""

from raftkv.cli import main

main(prog_name="raftkv")
