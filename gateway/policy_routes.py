"""`/v1/notification-policy`: how the tenant is told of its alerts: groups, repeats, a suppression window."""

from datetime import timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import Field

from gateway.acting import acting
from gateway.admin_bodies import Body, body_of, documented_body
from gateway.answers import documented_answer, json_answer
from gateway.in_flight import InFlight
from gateway.keyring import Guard
from gateway.pages import seeing
from gateway.problems import READ_REFUSALS, WRITE_REFUSALS
from sensors.alerts.matchers import Label
from sensors.alerts.policies import LONGEST, policy_row, read_policies, set_policy, unset_policy
from sensors.alerts.policy import Policy
from storage.api_keys import ApiKey
from storage.pool import Pool

_MEMBERS = ("group_by", "group_wait", "group_interval", "repeat_interval", "suppression_window")
_Wait = Annotated[float, Field(ge=0, le=LONGEST.total_seconds())]
_Interval = Annotated[float, Field(ge=1, le=LONGEST.total_seconds())]


class PolicyBody(Body):
    """How to tell, times in seconds; what is left out is as without a policy."""

    group_by: Annotated[
        list[Label] | None, Field(max_length=5, description="Labels that make a group; null: no groups.")
    ] = None
    group_wait: _Wait = Policy.group_wait.total_seconds()
    group_interval: _Wait = Policy.group_interval.total_seconds()
    repeat_interval: Annotated[_Interval | None, Field(description="Null: a firing is told once.")] = None
    suppression_window: Annotated[_Interval | None, Field(description="Null: every firing is told.")] = None

    @property
    def policy(self) -> Policy:
        """The policy itself."""
        return Policy(
            group_by=None if self.group_by is None else tuple(self.group_by),
            group_wait=timedelta(seconds=self.group_wait),
            group_interval=timedelta(seconds=self.group_interval),
            repeat_interval=_time(self.repeat_interval),
            suppression_window=_time(self.suppression_window),
        )


def policy_routes(pool: Pool, reader: Guard, admin: Guard, budget: InFlight) -> APIRouter:
    """The routes, for keys that `reader` lets pass and, where something changes, `admin`."""
    router = APIRouter(prefix="/v1/notification-policy", tags=["alerts"])
    Admin = Annotated[ApiKey, Depends(admin)]
    answer = documented_answer("The policy, times in seconds; null where something is off.", *_MEMBERS)

    @router.get(
        "",
        summary="How the tenant is told of its alerts.",
        response_class=Response,
        responses=answer | READ_REFUSALS,
    )
    def show(key: Annotated[ApiKey, Depends(reader)]) -> Response:
        with seeing(pool, key.tenant_id) as connection:
            policy = read_policies(connection, [key.tenant_id])[key.tenant_id]
        return json_answer(policy_row(policy))

    @router.put(
        "",
        summary="Tell the tenant by this policy from the next scan on, in place of the one before.",
        response_class=Response,
        responses=answer | WRITE_REFUSALS,
        openapi_extra={"requestBody": documented_body(PolicyBody)},
    )
    def replace(key: Admin, body: Annotated[PolicyBody, Depends(body_of(PolicyBody, budget))]) -> Response:
        with acting(pool, key) as connection:
            set_policy(connection, key.tenant_id, body.policy)
        return json_answer(policy_row(body.policy))

    @router.delete(
        "",
        summary="Tell the tenant every transition at once, alone and once, as without a policy.",
        status_code=HTTPStatus.NO_CONTENT,
        response_class=Response,
        responses=READ_REFUSALS,
    )
    def unset(key: Admin) -> Response:
        with acting(pool, key) as connection:
            unset_policy(connection, key.tenant_id)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    return router


def _time(seconds: float | None) -> timedelta | None:
    return None if seconds is None else timedelta(seconds=seconds)
