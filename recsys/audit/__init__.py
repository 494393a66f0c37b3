"""The leak audit: is anything handed to the ranker that could not have been known when the list was made?

`rules.audit(context)` runs the rules of `rules.AUDIT` and returns an `AuditReport`; `replay` compares the online path
with the offline one. How to read a report: docs/audit.md.
"""
