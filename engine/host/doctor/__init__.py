"""What stands between a person and a working install: checks with a sentence and a cure, and a bundle for others."""
