"""What viewers' pages measure, glass to glass: the latest post of each, in the order in which they came.

So whoever wants those of the last seconds begins at the end, and stops where they are older; those of another
manager come up to ELSEWHERE_S later than our own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

ELSEWHERE_S = 5.0


@dataclass(slots=True)
class LatencyPost:
    latency_ms: float
    at: float  # monotonic
    elsewhere: bool = False  # another manager was told


class LatencyPosts:
    def __init__(self) -> None:
        self._by_channel: dict[str, dict[str, LatencyPost]] = {}  # by session

    def put(self, channel: str, session: str, post: LatencyPost) -> None:
        posts = self._by_channel.setdefault(channel, {})
        posts.pop(session, None)  # so that it is the last one
        posts[session] = post

    def forget(self, channel: str, session: str) -> None:
        """Its session is over."""
        posts = self._by_channel.get(channel)
        if posts is not None and posts.pop(session, None) is not None and not posts:
            del self._by_channel[channel]

    def all(self) -> Iterator[LatencyPost]:
        for posts in self._by_channel.values():
            yield from posts.values()

    def last(self, channel: str, seconds: float) -> list[LatencyPost]:
        """Those of a channel that are up to so much older than the newest one."""
        posts = self._by_channel.get(channel, {})
        newest, found = float("-inf"), []
        for post in reversed(posts.values()):
            newest = max(newest, post.at)
            if post.at < newest - seconds - ELSEWHERE_S:
                break
            found.append(post)
        return [post for post in found if post.at >= newest - seconds]

    def told_since(self, at: float) -> Mapping[str, LatencyPost]:
        """By session: those that were posted here later than that."""
        found = {}
        for posts in self._by_channel.values():
            for session, post in reversed(posts.items()):
                if post.at <= at - ELSEWHERE_S:
                    break
                if post.at > at and not post.elsewhere:
                    found[session] = post
        return found
