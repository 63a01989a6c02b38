"""The name under which dagster-celery looks for its workers' settings on the path of modules."""

import os

broker_url = os.environ["TIDEMARK_CELERY_BROKER"]
result_backend = os.environ["TIDEMARK_CELERY_BACKEND"]
