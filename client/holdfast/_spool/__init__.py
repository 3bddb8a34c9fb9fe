"""The spool: a durable local queue of checkpoints for use while the server is unreachable.

Decides what is kept on this machine, in which order it is delivered and when it is discarded.
May import `errors`, `_runtime`, `_api` and `_transfer`; never torch.
"""
