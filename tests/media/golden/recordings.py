"""What real clients sent, recorded by record.py: `chromium-publishes-h264.json` and so on, beside this file.

A recording is one session, as the node saw it:

    client          its name and version
    offer           SDP
    password        of the node's ICE credentials, which the checks are authenticated with
    payload_types   of the picture, of its retransmissions (or null), and of the sound, as they were agreed
    checks          STUN binding requests, the first few
    hellos          datagrams of the DTLS ClientHello
    rtp             packets once decrypted: of the picture, of its retransmissions, and of the sound
    rtcp            compounds once decrypted, each of another make-up than the ones before
    pictures        of each picture in turn, the sizes of its packets as they are sent on (without extensions)

Bytes are in hex.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Recording:
    client: str
    offer: str
    password: str
    payload_types: tuple[int, int | None, int]
    checks: list[bytes]
    hellos: list[bytes]
    rtp: list[bytes]
    rtcp: list[bytes]
    pictures: list[list[int]]


def names() -> list[str]:
    return sorted(path.stem for path in HERE.glob("*.json"))


def load(name: str) -> Recording:
    told = json.loads((HERE / f"{name}.json").read_text())
    for key in ("checks", "hellos", "rtp", "rtcp"):
        told[key] = [bytes.fromhex(line) for line in told[key]]
    told["pictures"] = [[int(size) for size in line.split(",")] for line in told["pictures"]]
    return Recording(**told | {"payload_types": tuple(told["payload_types"])})


def save(name: str, recording: Recording) -> None:
    told = asdict(recording)
    for key in ("checks", "hellos", "rtp", "rtcp"):
        told[key] = [data.hex() for data in told[key]]
    told["pictures"] = [",".join(map(str, sizes)) for sizes in recording.pictures]
    (HERE / f"{name}.json").write_text(json.dumps(told, indent=1) + "\n")
