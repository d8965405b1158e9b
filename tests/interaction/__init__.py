"""Conversations of bare cores as transcripts: see :mod:`tests.interaction.script` for the commands."""
