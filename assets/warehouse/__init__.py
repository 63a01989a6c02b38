"""The dbt project as Dagster assets: parsed once and kept, built in this process.

Belongs here: running dbt, and translating its graph and its events. Does not belong here: SQL (in `dbt_project/`).
"""
