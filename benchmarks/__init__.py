"""How fast Holdfast is beside the local disk and beside MLflow, measured on the machine where it runs."""
