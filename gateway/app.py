"""The application: the routes put together. Nothing happens at import; the pools open when the server starts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from gateway import problems
from gateway.alert_routes import alert_routes
from gateway.dashboard_routes import dashboard_routes
from gateway.delivery_routes import delivery_routes
from gateway.evaluation_routes import evaluation_routes
from gateway.health import health_route
from gateway.in_flight import InFlight
from gateway.ingest_door import IngestDoor
from gateway.ingest_routes import ingest_routes
from gateway.inhibition_routes import inhibition_routes
from gateway.keyring import Keyring, guard
from gateway.manifest_routes import manifest_routes
from gateway.metrics import Metrics
from gateway.metrics_route import metrics_route
from gateway.observation import Observation
from gateway.options import DoorOptions
from gateway.otlp_routes import otlp_routes
from gateway.policy_routes import policy_routes
from gateway.recommendation_board import RecommendationBoard
from gateway.recommendation_routes import recommendation_routes
from gateway.silence_routes import silence_routes
from gateway.standing import StandingBoard
from gateway.webhook_routes import webhook_routes
from storage.clock import Clock
from storage.database import Database
from storage.pool import connection_pool, landing_pool
from storage.secrets import SecretBox
from storage.version import own_version


def create_app(database: Database, clock: Clock, box: SecretBox, options: DoorOptions | None = None) -> FastAPI:
    """The HTTP door of one deployment, whose database is migrated and whose secrets `box` seals."""
    options = options or DoorOptions()
    pool = connection_pool(database.platform)
    landing = landing_pool(database.platform)
    keyring = Keyring(pool, clock)
    budget = InFlight(options.most_bytes_in_flight)
    standing = StandingBoard(pool, database, clock)
    board = RecommendationBoard(pool, database.platform)
    metrics = Metrics(lambda: budget.used, standing.read)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # Not waited for: with the database away the door answers 503 rather than not at all.
        pool.open()
        landing.open()
        keeping = asyncio.create_task(board.keep())
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            landing.close()
            pool.close()

    app = FastAPI(
        title="Tidemark",
        version=own_version(),
        summary="Which ML pipelines are drifting, which are about to, and which model to use instead.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    problems.install(app)
    app.add_middleware(Observation, metrics=metrics)
    door = IngestDoor(landing, clock, budget, metrics, options)
    app.include_router(ingest_routes(door, guard(keyring, "ingest")))
    app.include_router(otlp_routes(door, guard(keyring, "ingest")))
    app.include_router(manifest_routes(pool, budget, guard(keyring, "ingest")))
    reader, admin = guard(keyring, "read"), guard(keyring, "admin", options.admin_networks)
    app.include_router(evaluation_routes(pool, reader))
    app.include_router(recommendation_routes(board, reader))
    app.include_router(dashboard_routes(pool, reader))
    app.include_router(alert_routes(pool, reader, admin, clock, budget))
    app.include_router(silence_routes(pool, reader, admin, clock, budget))
    app.include_router(inhibition_routes(pool, reader, admin, budget))
    app.include_router(policy_routes(pool, reader, admin, budget))
    app.include_router(delivery_routes(pool, admin, clock, budget))
    app.include_router(webhook_routes(pool, admin, clock, budget, box, options.webhook_networks))
    app.include_router(health_route(pool, standing))
    app.include_router(metrics_route(metrics, options.admin_networks))
    return app
