"""Writes the parts of docs/reference/ that the code decides: settings, errors, routes, commands, metrics, the client.

A generated part stands between two comments of a page; everything around it is written by hand. A column that the code
does not know, such as the advice on an error, is written by hand in the page and kept, row by row.
"""
