"""Many rows: planned, copied in bulk from rows that real saves have left, and roots that hold them."""
