"""The Taskcast HTTP server and command line: REST, Server-Sent Events, WebSocket workers, JWT, webhooks."""
