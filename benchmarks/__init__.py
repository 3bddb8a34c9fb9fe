"""Benchmarks of Holdfast against the local disk and against MLflow, on the machine where they run."""
