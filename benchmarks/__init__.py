"""How fast Tidemark is, as ratios measured in one run on one machine.

One module `bench_NAME.py` a question, with `run() -> list[Row]`. Belongs here: measuring what the rooms do, beside a
baseline in the same run. Does not belong here: passing or failing on time; a ratio that disappoints is a row like any.
"""
