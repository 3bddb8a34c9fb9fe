"""The tables, and what rows of all kinds share: times, orders, filters, mapping to models.

Decides the SQL types and the order of every list.
May import `core`; never opens a connection.
"""
