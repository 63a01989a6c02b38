"""The application: the routes put together. Nothing happens at import; the pool opens when the server starts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI

from gateway import problems
from gateway.dashboard_routes import dashboard_routes
from gateway.health import health_route
from gateway.keyring import Keyring, guard
from storage.clock import Clock
from storage.database import Database
from storage.pool import connection_pool


def create_app(database: Database, clock: Clock) -> FastAPI:
    """The HTTP door of one deployment, whose database is migrated."""
    pool = connection_pool(database.platform)
    keyring = Keyring(pool, clock)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # Not waited for: with the database away the door answers 503 rather than not at all.
        pool.open()
        try:
            yield
        finally:
            pool.close()

    app = FastAPI(
        title="Tidemark",
        version=_version(),
        summary="Which ML pipelines are drifting, which are about to, and which model to use instead.",
        lifespan=lifespan,
        redirect_slashes=False,
    )
    problems.install(app)
    app.include_router(dashboard_routes(pool, guard(keyring, "read")))
    app.include_router(health_route(pool))
    return app


def _version() -> str:
    try:
        return version("tidemark")
    except PackageNotFoundError:  # run from a plain folder
        return "0"
