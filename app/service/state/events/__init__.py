"""The event feed: one reader of new events for all open streams of this process.

Decides when the catalog is read for news, which streams they go to, and which streams are cut. It works from the
catalog alone: a notification only makes it read at once, so events of another process that shares the catalog arrive
with the next poll. Nothing here would have to be shared by several servers.
May import `core` and `catalog`; never a use case, never HTTP.
"""
