"""How a worker says no to its agent.

Refused     the request cannot be served; its problem is the answer
"""


class Refused(Exception):
    """A request that cannot be served; the fields of wire.Problem."""

    def __init__(self, status: int, code: str, title: str, detail: str = "") -> None:
        super().__init__(detail or title)
        self.code = code
        self.problem = {"status": status, "code": code, "title": title, "detail": detail}
