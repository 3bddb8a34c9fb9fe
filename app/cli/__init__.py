"""The command `holdfast-server`: its commands, flags, exit statuses and output.

Decides what an operator types and reads.
May import everything; what a command does is imported only when it runs.
"""
