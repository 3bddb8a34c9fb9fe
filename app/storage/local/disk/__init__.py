"""Files and folders of a Linux file system: reached without following links, changed so that changes last.

Decides how a single step is made durable; never knows what a file is for.
May import `core` and the ports.
"""
