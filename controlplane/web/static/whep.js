/*
 * One WHEP session: one RTCPeerConnection that receives, and one resource on the stream manager.
 *
 * The page offers (receive only), the node answers with ICE-lite and its addresses in the answer. So nothing
 * is trickled and nothing waits for gathering: the node learns our address from the first connectivity check.
 * What is to be done about a failure is the player's business; here a failure is only said well (WhepError).
 */

const ANSWER_TIMEOUT_MS = 8000;

/** Why a session could not be made. `status` is 0 when no answer came at all. */
export class WhepError extends Error {
  constructor(status, code, message, retryAfterMs = null) {
    super(message);
    this.name = 'WhepError';
    this.status = status;
    this.code = code;
    this.retryAfterMs = retryAfterMs;
  }
}

export class WhepSession {
  /** @type {RTCPeerConnection} */ pc;
  /** What to show: gets its tracks as they come. */
  stream = new MediaStream();
  /** The resource's address once the answer is here. */
  url = null;
  /** Called when the transport is lost (ICE failed or disconnected, DTLS closed). */
  onlost = () => {};

  #closed = false;

  constructor() {
    this.pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle', rtcpMuxPolicy: 'require' });
    for (const kind of ['video', 'audio']) {
      const { receiver } = this.pc.addTransceiver(kind, { direction: 'recvonly' });
      // The browser's own default trades delay for smoothness (it grows its buffer after every hiccup and
      // gives it back slowly). A show is watched live, and lost packets are repaired within a round trip, so
      // ask for the smallest buffer. It is a target, not a limit: jitter still makes the buffer as long as
      // it has to be. Set on sound AND picture, or lip-sync holds the one back for the other.
      if ('jitterBufferTarget' in receiver) receiver.jitterBufferTarget = 0;
    }
    this.pc.addEventListener('track', ({ track }) => this.stream.addTrack(track));
    this.pc.addEventListener('connectionstatechange', () => this.#checkTransport());
  }

  /** Offer, POST, take the answer. Throws WhepError. Media may come at any moment after it. */
  async open(endpoint) {
    await this.#offer();
    const response = await this.#post(endpoint, this.pc.localDescription.sdp);
    const location = response.headers.get('Location');
    if (location) this.url = new URL(location, response.url).href;
    if (this.#closed) {
      // Given up while the answer was on its way: the node must not keep a place for nobody.
      this.#delete();
      throw new WhepError(0, 'closed', 'closed while connecting');
    }
    try {
      const answer = await response.text().catch((error) => {
        throw new WhepError(0, 'unreachable', `the answer broke off: ${error.message}`);
      });
      await this.pc.setRemoteDescription({ type: 'answer', sdp: answer });
    } catch (error) {
      this.close();
      if (error instanceof WhepError) throw error;
      throw new WhepError(415, 'bad_answer', `the browser refused the answer: ${error.message}`);
    }
    // DTLS close_notify (a node that ends cleanly) shows here long before ICE notices anything.
    const transport = this.pc.getReceivers()[0]?.transport;
    transport?.addEventListener('statechange', () => this.#checkTransport());
    return this;
  }

  get eventsUrl() {
    return this.url && `${this.url}/events`;
  }

  get latencyUrl() {
    return this.url && `${this.url}/latency`;
  }

  /** Figures of this moment, flat. Anything the browser does not tell is null. */
  async stats() {
    const report = await this.pc.getStats();
    const found = { video: null, audio: null, pair: null };
    for (const item of report.values()) {
      if (item.type === 'inbound-rtp') found[item.kind] = item;
      // Firefox marks the pair in use by `selected` and has no transport entry.
      else if (item.type === 'transport') found.pair = report.get(item.selectedCandidatePairId) ?? found.pair;
      else if (item.type === 'candidate-pair' && item.selected) found.pair = item;
    }
    const { video, audio, pair } = found;
    const bytes = (item) => (item ? item.bytesReceived + (item.headerBytesReceived ?? 0) : 0);
    return {
      at: performance.now(),
      // RTP payload and headers of the picture: what the broadcaster's bitrate is about.
      videoBytes: bytes(video),
      audioBytes: bytes(audio),
      framesDecoded: video?.framesDecoded ?? 0,
      framesDropped: video?.framesDropped ?? null,
      framesPerSecond: video?.framesPerSecond ?? null,
      width: video?.frameWidth ?? null,
      height: video?.frameHeight ?? null,
      packetsLost: video?.packetsLost ?? null,
      packetsReceived: video?.packetsReceived ?? null,
      nacks: video?.nackCount ?? null,
      keyFrameRequests: video?.pliCount ?? null,
      jitterMs: video?.jitter != null ? video.jitter * 1000 : null,
      bufferMs:
        video?.jitterBufferEmittedCount > 0
          ? (video.jitterBufferDelay / video.jitterBufferEmittedCount) * 1000
          : null,
      roundTripMs: pair?.currentRoundTripTime != null ? pair.currentRoundTripTime * 1000 : null,
      codec: video?.codecId ? (report.get(video.codecId)?.mimeType?.replace('video/', '') ?? null) : null,
    };
  }

  /** Ends the session and tells the stream manager. Safe to call twice, and while the page goes away. */
  close() {
    if (this.#closed) return;
    this.#closed = true;
    this.pc.close();
    this.#delete();
  }

  #delete() {
    if (!this.url) return;
    // keepalive: the request outlives the page, so a closed tab gives its place back at once.
    fetch(this.url, { method: 'DELETE', keepalive: true }).catch(() => {});
  }

  #checkTransport() {
    if (this.#closed) return;
    const dtls = this.pc.getReceivers()[0]?.transport?.state;
    const lost = ['failed', 'disconnected', 'closed'].includes(this.pc.connectionState);
    if (lost || dtls === 'closed' || dtls === 'failed') this.onlost();
  }

  async #offer() {
    const offer = await this.pc.createOffer();
    try {
      await this.pc.setLocalDescription({ type: 'offer', sdp: askForStereo(offer.sdp) });
    } catch {
      await this.pc.setLocalDescription(offer); // a browser that takes no edited offer plays mono
    }
  }

  async #post(endpoint, sdp) {
    let response;
    try {
      response = await fetch(endpoint, {
        method: 'POST',
        headers: { 'Content-Type': 'application/sdp' },
        body: sdp,
        cache: 'no-store',
        signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
      });
    } catch (error) {
      this.close();
      throw new WhepError(0, 'unreachable', error.message);
    }
    if (response.status === 201) return response;
    this.close();
    const problem = await response.json().catch(() => ({}));
    throw new WhepError(
      response.status,
      problem.code ?? '',
      problem.detail || problem.title || `HTTP ${response.status}`,
      retryAfterMs(response.headers.get('Retry-After')),
    );
  }
}

/** Opus is decoded to mono unless the receiver says `stereo=1` (RFC 7587, 6.1). */
export function askForStereo(sdp) {
  const opus = /a=rtpmap:(\d+) opus\/48000/i.exec(sdp);
  if (!opus) return sdp;
  return sdp.replace(new RegExp(`(a=fmtp:${opus[1]} )(?!.*stereo=)`), '$1stereo=1;');
}

/** Seconds or an HTTP date (RFC 9110, 10.2.3), in milliseconds from now; null when there is none. */
export function retryAfterMs(header) {
  if (!header) return null;
  const seconds = Number(header);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - Date.now();
  return Number.isFinite(ms) ? Math.max(0, ms) : null;
}
