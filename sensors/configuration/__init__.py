"""Configuration as a file: what holds for a tenant, or by default, exported, checked and applied as one.

Does not belong here: the rows' own rooms (`sensors.alerts`, `sensors.webhooks`), which go on deciding what is valid.
"""
