"""What is done about what is known: alerts (rows only) and webhooks (the outside world).

Does not belong here: statistics and aggregates (assets), schedules and the command line (orchestration).
"""
