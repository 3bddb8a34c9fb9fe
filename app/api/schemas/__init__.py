"""What travels as JSON. Requests are strict; answers say all that is known."""
