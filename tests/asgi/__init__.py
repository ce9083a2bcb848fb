"""Tests of the ASGI front: in process, on virtual time, with plain ASGI functions as origins."""
