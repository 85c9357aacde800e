"""The test suite of all distributions."""
