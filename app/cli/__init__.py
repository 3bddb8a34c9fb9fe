"""The command `holdfast-server`: its commands, flags, exit statuses and output.

Decides what an operator types and reads.
May import everything, and each command imports what it needs only when it runs; never touches SQL itself.
"""
