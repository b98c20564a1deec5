"""A WHIP publisher or WHEP viewer made of GStreamer's webrtcbin: a program of its own.

    python3 webrtcbin.py publish ADDRESS --codec H264 --token TOKEN
    python3 webrtcbin.py watch ADDRESS --codec VP8
    python3 webrtcbin.py --check

It runs under the system's Python, to which Debian's bindings (python3-gi) belong, and so knows nothing of
this project. Every 100 ms it prints a line of JSON (`Client.facts`); when its standard input is closed it
gives its session back and ends. `--check` prints the version of GStreamer, or ends with 1 and says why.
"""

import argparse
import json
import sys
import urllib.request
from urllib.parse import urljoin

try:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstSdp", "1.0")
    gi.require_version("GstWebRTC", "1.0")
    from gi.repository import GLib, Gst, GstSdp, GstWebRTC
except (ImportError, ValueError) as missing:
    sys.exit(f"no GStreamer for {sys.executable}: {missing}")

WIDTH, HEIGHT, FPS = 640, 360, 30
HTTP_S = 10
TELL_MS = 100

ENCODERS = {
    "H264": "x264enc tune=zerolatency speed-preset=superfast bitrate=1200 key-int-max=60 "
    "! video/x-h264,profile=constrained-baseline "
    "! rtph264pay config-interval=-1 aggregate-mode=zero-latency",
    "VP8": "vp8enc deadline=1 cpu-used=8 target-bitrate=1200000 keyframe-max-dist=60 "
    "! rtpvp8pay picture-id-mode=15-bit",
    "OPUS": "opusenc ! rtpopuspay",
}
DECODERS = {
    "H264": "rtph264depay ! h264parse ! avdec_h264",
    "VP8": "rtpvp8depay ! vp8dec",
    "OPUS": "rtpopusdepay ! opusdec",
}
# webrtcbin gives the number after the picture's to its retransmissions
FORMATS = {
    "H264": "application/x-rtp,media=video,encoding-name=H264,payload=96,clock-rate=90000",
    "VP8": "application/x-rtp,media=video,encoding-name=VP8,payload=96,clock-rate=90000",
    "OPUS": "application/x-rtp,media=audio,encoding-name=OPUS,payload=111,clock-rate=48000,"
    "encoding-params=(string)2",
}
PROFILE = {"H264": ",packetization-mode=(string)1,profile-level-id=(string)42e01f"}
BESIDE = ("nicesrc", "dtlsdec", "srtpdec", "videotestsrc", "audiotestsrc", "audioconvert", "audioresample")


def missing_elements():
    """The names of elements that are not installed."""
    chains = " ! ".join((*ENCODERS.values(), *DECODERS.values(), *BESIDE, "webrtcbin")).split(" ! ")
    names = {chain.split()[0] for chain in chains if "/" not in chain.split()[0]}
    return sorted(name for name in names if Gst.ElementFactory.find(name) is None)


class Client:
    """One session. All happens in the main loop, but for what GStreamer's own threads count."""

    def __init__(self, address, codec, token):
        self.address, self.codec, self.token = address, codec, token
        self.loop = GLib.MainLoop()
        self.resource = ""
        self.frames = self.sounds = 0  # pictures, and blocks of sound, that were decoded
        self.size = (0, 0)
        self.problem = ""
        self.pipeline = Gst.Pipeline()
        self.peer = Gst.ElementFactory.make("webrtcbin", "peer")
        self.peer.set_property("bundle-policy", "max-bundle")
        self.pipeline.add(self.peer)
        self.ice = self.peer.get_property(
            "ice-agent"
        )  # kept: webrtcbin does not own it once it was looked at
        self.ice.emit("add-local-ip-address", "127.0.0.1")  # and no other one
        self.ice.get_property("agent").set_property("upnp", False)

    def facts(self):
        return {
            "state": self.peer.get_property("connection-state").value_nick,
            "frames": self.frames,
            "sounds": self.sounds,
            "size": self.size,
            "problem": self.problem,
        }

    # -- media

    def publish(self):
        """A test picture that moves, with noise in a corner, and a tick each second."""
        camera = f"video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate={FPS}/1"
        for source, codec in (
            (f"videotestsrc is-live=true pattern=smpte horizontal-speed=4 ! {camera}", self.codec),
            ("audiotestsrc is-live=true wave=ticks ! audioconvert ! audioresample", "OPUS"),
        ):
            self.part(f"{source} ! {ENCODERS[codec]} ! {FORMATS[codec]} ! queue").link(self.peer)
        for transceiver in self.transceivers():
            transceiver.set_property("direction", GstWebRTC.WebRTCRTPTransceiverDirection.SENDONLY)
            transceiver.set_property("do-nack", True)

    def watch(self):
        for codec in (self.codec, "OPUS"):
            wanted = Gst.Caps.from_string(FORMATS[codec] + PROFILE.get(codec, ""))
            transceiver = self.peer.emit(
                "add-transceiver", GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY, wanted
            )
            transceiver.set_property("do-nack", True)
        self.peer.connect("pad-added", self.on_track)

    def part(self, description):
        """A piece of the pipeline with its loose ends as pads."""
        part = Gst.parse_bin_from_description(description, True)
        self.pipeline.add(part)
        return part

    def transceivers(self):
        index = 0
        while (transceiver := self.peer.emit("get-transceiver", index)) is not None:
            yield transceiver
            index += 1

    def on_track(self, _, pad):
        if pad.get_direction() != Gst.PadDirection.SRC:
            return
        codec = pad.get_current_caps().get_structure(0).get_string("encoding-name").upper()
        part = self.part(f"queue ! {DECODERS[codec]} ! fakesink name=screen sync=false async=false")
        seen = self.on_sound if codec == "OPUS" else self.on_picture
        part.get_by_name("screen").get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, seen)
        part.sync_state_with_parent()
        pad.link(part.get_static_pad("sink"))

    def on_picture(self, pad, _):
        self.frames += 1
        shown = pad.get_current_caps().get_structure(0)
        self.size = (shown.get_value("width"), shown.get_value("height"))
        return Gst.PadProbeReturn.OK

    def on_sound(self, *_):
        self.sounds += 1
        return Gst.PadProbeReturn.OK

    # -- signalling

    def request(self, method, address, body=None):
        headers = {"Content-Type": "application/sdp"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        asked = urllib.request.Request(address, body and body.encode(), headers, method=method)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        return direct.open(asked, timeout=HTTP_S)

    def negotiate(self):
        """The offer, then all candidates, then the POST."""
        self.peer.connect("notify::ice-gathering-state", lambda *_: GLib.idle_add(self.on_gathering))
        self.peer.emit("create-offer", None, Gst.Promise.new_with_change_func(self.on_offer))

    def on_offer(self, promise):
        reply = promise.get_reply()  # has to outlive what is taken out of it
        self.peer.emit("set-local-description", reply.get_value("offer"), Gst.Promise.new())

    def on_gathering(self):
        complete = self.peer.get_property("ice-gathering-state") == GstWebRTC.WebRTCICEGatheringState.COMPLETE
        if not complete or self.resource:
            return
        offer = self.peer.get_property("local-description").sdp.as_text()
        try:
            with self.request("POST", self.address, offer) as response:
                self.resource = urljoin(response.url, response.headers["Location"])
                answer = response.read()
        except OSError as error:  # HTTPError is one
            self.fail(f"POST {self.address}: {error}")
            return
        _, described = GstSdp.SDPMessage.new()
        GstSdp.sdp_message_parse_buffer(answer, described)
        session = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, described)
        self.peer.emit("set-remote-description", session, Gst.Promise.new())

    # -- from beginning to end

    def fail(self, problem):
        self.problem = problem
        self.tell()
        self.loop.quit()

    def tell(self):
        print(json.dumps(self.facts()), flush=True)
        return True

    def on_message(self, _, message):
        if message.type == Gst.MessageType.ERROR:
            self.fail(" ".join(map(str, message.parse_error())))

    def run(self):
        """Until standard input is closed; 0, or 1 when something failed."""
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message", self.on_message)
        GLib.io_add_watch(sys.stdin, GLib.PRIORITY_DEFAULT, GLib.IO_IN | GLib.IO_HUP, self.on_input)
        GLib.timeout_add(TELL_MS, self.tell)
        self.pipeline.set_state(Gst.State.PLAYING)
        self.negotiate()
        try:
            self.loop.run()
        finally:
            self.pipeline.set_state(Gst.State.NULL)
            if self.resource:
                self.request("DELETE", self.resource).close()
        return 1 if self.problem else 0

    def on_input(self, *_):
        self.loop.quit()
        return False


def main():
    parser = argparse.ArgumentParser(description="a WHIP publisher or WHEP viewer made of webrtcbin")
    parser.add_argument("--check", action="store_true", help="is all of GStreamer here that this needs?")
    parser.add_argument("what", nargs="?", choices=("publish", "watch"))
    parser.add_argument("address", nargs="?")
    parser.add_argument("--codec", choices=("H264", "VP8"), default="H264")
    parser.add_argument("--token", default="")
    options = parser.parse_args()
    Gst.init(None)
    if missing := missing_elements():
        sys.exit(f"GStreamer lacks {', '.join(missing)}")
    if options.check:
        print(Gst.version_string())
        return 0
    client = Client(options.address, options.codec, options.token)
    client.publish() if options.what == "publish" else client.watch()
    return client.run()


if __name__ == "__main__":
    sys.exit(main())
