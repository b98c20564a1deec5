"""What a worker's process is given by the agent that launches it."""

from pathlib import Path

from media.node.workers import TOKEN, environment
from tests.media.security.stand import running_show


def test_a_worker_is_given_all_but_the_token() -> None:
    assert environment({TOKEN: "a secret", "HOME": "/root"}) == {"HOME": "/root"}


async def test_another_thread_makes_what_protects_the_packets_of_viewers() -> None:
    def turns() -> int:
        """How often the threads beside the first one have waited for something to do."""
        said = [
            task.joinpath("status").read_text() for task in tasks.iterdir() if task.name != str(worker.pid)
        ]
        return sum(int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for text in said)

    async with running_show() as show:  # its publisher is sent nothing but reports
        worker = show.worker.process
        tasks = Path(f"/proc/{worker.pid}/task")
        before = turns()
        await show.viewer()
        once = turns()
        assert once > before
        await show.viewer()
        assert turns() > once
