"""The commands of `holdfast`, one module for each.

Decides what a command sends, prints and exits with.
May import everything of the client; never draws a table itself.
"""
