"""Machines as processes of their own, before one real server."""
