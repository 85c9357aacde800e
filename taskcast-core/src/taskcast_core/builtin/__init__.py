"""The plugins that come with core: memory and SQLite. They register through the same door as everyone's."""
