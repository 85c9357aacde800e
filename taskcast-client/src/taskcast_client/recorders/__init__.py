"""An LLM's stream becomes a task's events in one line: ``async for chunk in record(task, stream):``.

One module per library: `openai`, `anthropic`, `langchain` (LangGraph, too), `pydantic_ai`, and `plain` for iterators
of text. Chunks are passed on as they are; what they say is published as `taskcast_client.vocabulary` describes. The
modules look at what chunks say, and import no library themselves.
"""
