"""Webhooks over HTTP: what is sent, how it is signed, where it may go, when it is tried again.

Import from the modules: loading a configuration must not load cryptography and an HTTP client.
"""
