"""The pages in a real browser, while a network is really trained."""
