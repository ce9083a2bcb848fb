"""Tests against real uvicorn over real sockets. `rig.py` holds what they share."""
