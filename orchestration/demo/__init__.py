"""The demonstration: a made-up but realistic sample, what is hidden in it, and a receiver that checks webhooks.

Belongs here: data and helpers that only `tidemark demo` and its tests use. Does not belong here: anything that a
deployment relies on; no other package imports this one.
"""
