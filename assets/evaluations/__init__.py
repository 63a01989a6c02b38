"""Landing: the record contract, verdicts, rejects and receipts; the asset `evaluations` and its checks.

Belongs here: everything between bytes that arrive and rows in `raw`. Does not belong here: any particular door.
"""
