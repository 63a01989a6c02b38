"""Alerts: thresholds over what is new, alert states, events in the outbox. Writes rows and talks to nobody.

Does not belong here: statistics (assets), anything that opens a network connection (`sensors.webhooks`).
"""
