"""The steps, one file for each change of the tables."""
