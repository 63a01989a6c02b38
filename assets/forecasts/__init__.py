"""Forecasts: what each template's own past lets expect of a day's drift and reliability, and whether the day broke it.

Belongs here: histories as arrays, forecasters, calibrated judgement, the registry, and the assets that store them.
Does not belong here: telling anyone about an anomaly (sensors/alerts), the daily aggregates themselves (dbt).
"""
