"""The HTTP door: routes, keys at the door, problem documents.

Belongs here: what is HTTP (paths, parameters, headers, status codes) and the whitelist of what may be read over it.
Does not belong here: any rule about records, alerts or figures (the rooms below), Dagster.
"""
