"""The routes, one module per part of the API; ``table`` puts them together."""
