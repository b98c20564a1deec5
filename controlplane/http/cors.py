"""What lets a page of another origin call WHIP and WHEP: players are embedded anywhere."""

CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": (
        "Location, Link, ETag, Accept-Patch, Accept-Post, Allow, Retry-After, WWW-Authenticate"
    ),
}
PREFLIGHT = CORS | {
    "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match, Last-Event-ID",
    "Access-Control-Max-Age": "600",
}


def preflight(*methods: str) -> dict[str, str]:
    """What an OPTIONS request is answered with at an address that knows these methods."""
    known = ", ".join(sorted({*methods, "OPTIONS"}))
    return PREFLIGHT | {"Allow": known, "Access-Control-Allow-Methods": known}


def for_path(path: str) -> dict[str, str]:
    """The headers an answer at this path needs: errors must be readable there too."""
    return dict(CORS) if path.startswith(("/whip/", "/whep/")) else {}
