"""Access to the database: SQL functions over one of two transports, and the schema's migrations."""

from engine.store.transport import Transport, open_store

__all__ = ["Transport", "open_store"]
