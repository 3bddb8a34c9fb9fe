"""The tables, and what all rows share: portable types, times, orders, filters, mapping to models.

Decides the SQL types and the order of every list.
May import `core`; never opens a connection.
"""
