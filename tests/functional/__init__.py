"""Real twistd processes on the loopback address: killed, paused, restarted on the same directories.

They take seconds rather than milliseconds and are run one after the other, apart from the unit tests. Times are waited
for with generous limits and never asserted tightly; what was measured is printed.
"""
