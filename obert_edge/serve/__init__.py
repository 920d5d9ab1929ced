"""The serving wing: bundles behind HTTP, by the protocols that embedding clients speak.

Needs the extra ``serve``: starlette, uvicorn with httptools and uvloop, orjson and prometheus_client.
Everything it computes comes from the device wing. ``settings`` imports none of them, so that the command line
can list the options where they are absent.
"""
