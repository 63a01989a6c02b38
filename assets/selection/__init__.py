"""Selection: which extractor a template should use, from the feedback on each.

Belongs here: posteriors of success rates, probabilities of being the best, recommendations, and the asset that stores
them. Does not belong here: counting feedback (dbt), how a recommendation is served (gateway, command line).
"""
