"""What a node cannot do.

Refused         a worker's no to its agent: the request cannot be served; its problem is the answer
AnnounceError   a node cannot start: nobody says which addresses to announce; the message is for people
"""


class Refused(Exception):
    """A request that cannot be served; the fields of wire.Problem."""

    def __init__(self, status: int, code: str, title: str, detail: str = "") -> None:
        super().__init__(detail or title)
        self.code = code
        self.problem = {"status": status, "code": code, "title": title, "detail": detail}


class AnnounceError(Exception):
    """It cannot be told which addresses to announce; the message says why and what to do."""
