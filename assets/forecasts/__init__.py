"""Forecasts: the drift that each template's own past lets expect of a day, and whether the day broke it.

Belongs here: histories, bands (Prophet, z-score), the rolling judgement, and the asset that stores both.
Does not belong here: telling anyone about an anomaly (sensors/alerts), the daily aggregates themselves (dbt).
"""
