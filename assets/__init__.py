"""What is known: evaluations as landed, the warehouse built from them, forecasts and posteriors.

Belongs here: one folder an asset group; pure logic in plainly named modules, Dagster only in
`assets.py` and `checks.py`.
Does not belong here: what is done about a finding (sensors), how it is scheduled (orchestration).
"""
