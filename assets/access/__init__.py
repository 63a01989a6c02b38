"""Who did what, and that nobody can undo having done it: the audit log's seals, their check and its retention.

Does not belong here: what is hashed and what may be dropped (`storage.audit_chain`, `storage.audit_seals`).
"""
