"""Webhooks: who wants to be told, and telling them: signed, to checked addresses, until it has arrived or failed.

Reads the outbox and talks to the world. Does not belong here: what happened (`sensors.alerts`), and anything of assets.
"""
