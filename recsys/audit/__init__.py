"""The leak audit: does the ranker read anything that was not known at the request time?

`run.audit(context)` runs the rules of `run.AUDIT` and returns an `AuditReport`; `replay` compares the online path
with the offline one. How to read a report: docs/audit.md.
"""
