"""Pages for people: they sign in with a token, and see what it reaches."""
