"""The time after which a test takes what it waits for as lost. A machine that is busy must not make a test fail."""

DEADLINE_S = 120
"""For what ends as soon as it has come; it is no statement about how fast anything is."""
