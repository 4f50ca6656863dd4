"""Importing this package registers every scenario."""
from scenarios import frozen, join, power, storage  # noqa: F401
