"""How a catalog of an earlier version becomes one of this version: a step in ``versions`` for each change of tables."""
