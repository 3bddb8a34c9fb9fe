"""The pages in a real browser, while a real network is trained."""
