"""Who is calling, and what may they do: authenticators, service keys, task rules, stream tickets, the admin token.

Import from the modules: loading a configuration must not load cryptography and an HTTP client.
"""
