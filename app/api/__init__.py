"""HTTP and nothing but: each route says who may, what, and what the answer is."""
