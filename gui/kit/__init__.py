"""The widgets the pages are made of, each painted from the theme's tokens."""
