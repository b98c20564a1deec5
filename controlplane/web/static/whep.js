/*
 * One WHEP session: one RTCPeerConnection that receives, and one resource on the stream manager.
 *
 * The page offers (receive only), the node answers with ICE-lite and its addresses in the answer. So nothing
 * is trickled and nothing waits for gathering: the node learns our address from the first connectivity check.
 * When the way to the node is lost, ICE is restarted by PATCH (RFC 9725, 4.3.3): the same session, the same
 * pictures, another way. Redirects are the browser's affair; it keeps the method of a 307 and 308.
 * What is to be done about a failure is the player's business; here a failure is only said well (WhepError).
 */

const ANSWER_TIMEOUT_MS = 8000;
const RESTART_TIMEOUT_MS = 3000;
const FRAGMENT = 'application/trickle-ice-sdpfrag';

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
  /** Whether the transport ever stood: ICE found a way, and DTLS was done. */
  connected = false;
  /** Where the node can be reached, in words, as the answer says. */
  reach = '';
  /** Called when the transport is lost: `over` when the node has closed it, else ICE failed or disconnected. */
  onlost = (_over) => {};

  #closed = false;
  #restarting = null;

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
      this.reach = reachOf(answer);
      await this.pc.setRemoteDescription({ type: 'answer', sdp: answer });
    } catch (error) {
      this.close();
      if (error instanceof WhepError) throw error;
      throw new WhepError(415, 'bad_answer', `the browser refused the answer: ${error.message}`);
    }
    const iceServers = iceServersOf(response.headers.get('Link') ?? '');
    // For later restarts: a node has an address of its own, and the first session needs nobody to reach it.
    if (iceServers.length) this.pc.setConfiguration({ ...this.pc.getConfiguration(), iceServers });
    // DTLS close_notify (a node that ends cleanly) shows here long before ICE notices anything.
    const transport = this.pc.getReceivers()[0]?.transport;
    transport?.addEventListener('statechange', () => this.#checkTransport());
    return this;
  }

  /**
   * Restart ICE: the browser looks for a way anew, the node takes new credentials beside the old ones. Throws
   * WhepError when the server does not take it; then all is as it was. Asked again meanwhile, it is the same one.
   */
  restart() {
    this.#restarting ??= this.#restart().finally(() => {
      this.#restarting = null;
    });
    return this.#restarting;
  }

  async #restart() {
    if (!this.url || this.#closed) throw new WhepError(0, 'closed', 'there is no session');
    this.pc.restartIce();
    try {
      await this.#offer();
      const headers = { 'Content-Type': FRAGMENT, 'If-Match': '*' };
      const body = fragmentOf(this.pc.localDescription.sdp);
      const signal = AbortSignal.timeout(RESTART_TIMEOUT_MS);
      const response = await fetch(this.url, { method: 'PATCH', headers, body, cache: 'no-store', signal });
      if (response.status !== 200) throw await problemOf(response);
      const sdp = withTransport(this.pc.currentRemoteDescription.sdp, await response.text());
      await this.pc.setRemoteDescription({ type: 'answer', sdp });
    } catch (error) {
      if (this.pc.signalingState === 'have-local-offer') {
        await this.pc.setLocalDescription({ type: 'rollback' }).catch(() => {});
      }
      throw error instanceof WhepError ? error : new WhepError(0, 'unreachable', error.message);
    }
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
      received: pair?.bytesReceived ?? null, // of anything but ICE
      roundTripMs: pair?.currentRoundTripTime != null ? pair.currentRoundTripTime * 1000 : null,
      transport: transportOf(report.get(pair?.remoteCandidateId)),
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
    this.connected ||= this.pc.connectionState === 'connected';
    const dtls = this.pc.getReceivers()[0]?.transport?.state;
    const over = dtls === 'closed' || dtls === 'failed' || this.pc.connectionState === 'closed';
    if (over || ['failed', 'disconnected'].includes(this.pc.connectionState)) this.onlost(over);
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
    throw await problemOf(response);
  }
}

/** What an error answer says (RFC 9457), as a WhepError. */
async function problemOf(response) {
  const problem = await response.json().catch(() => ({}));
  return new WhepError(
    response.status,
    problem.code ?? '',
    problem.detail || problem.title || `HTTP ${response.status}`,
    retryAfterMs(response.headers.get('Retry-After')),
  );
}

/** The ICE side of an offer, of its first section (RFC 8840, 4.4): all sections are bundled. */
export function fragmentOf(sdp) {
  const lines = sdp.split(/\r?\n/);
  const wanted = ['a=ice-options:', 'm=', 'a=mid:', 'a=ice-ufrag:', 'a=ice-pwd:'];
  const found = wanted.map((start) => lines.find((line) => line.startsWith(start))).filter(Boolean);
  return `${found.join('\r\n')}\r\n`;
}

/** A description with the credentials and candidates of a fragment in place of its own. */
export function withTransport(sdp, fragment) {
  const fresh = fragment.split(/\r?\n/);
  const of = (start) => fresh.filter((line) => line.startsWith(start));
  const [ufrag] = of('a=ice-ufrag:');
  const [password] = of('a=ice-pwd:');
  if (!ufrag || !password) throw new WhepError(0, 'bad_answer', 'the restart was answered without credentials');
  const candidates = [...of('a=candidate:'), 'a=end-of-candidates'];
  return sdp
    .split(/\r?\n/)
    .filter((line) => !/^a=(candidate:|end-of-candidates)/.test(line))
    .flatMap((line) => {
      if (line.startsWith('a=ice-ufrag:')) return [ufrag];
      return line.startsWith('a=ice-pwd:') ? [password, ...candidates] : [line];
    })
    .join('\r\n');
}

/** The STUN and TURN servers a Link header names (RFC 9725, 4.6), as RTCConfiguration has them. */
export function iceServersOf(header) {
  const servers = [];
  for (const [, urls, parameters] of header.matchAll(/<([^>]*)>((?:\s*;\s*[\w-]+=(?:"(?:\\.|[^"\\])*"|[^\s;,]+))*)/g)) {
    const given = {};
    for (const [, name, quoted, plain] of parameters.matchAll(/([\w-]+)=(?:"((?:\\.|[^"\\])*)"|([^\s;,]+))/g)) {
      given[name] = plain ?? quoted.replace(/\\(.)/g, '$1');
    }
    if (given.rel !== 'ice-server') continue;
    const { username, credential } = given;
    servers.push(username === undefined ? { urls } : { urls, username, credential });
  }
  return servers;
}

/** "UDP, IPv4": how the node is reached, by the candidate in use; null where the browser does not tell. */
function transportOf(candidate) {
  const address = candidate?.address ?? candidate?.ip;
  if (!candidate?.protocol || !address) return null;
  return `${candidate.protocol.toUpperCase()}, ${address.includes(':') ? 'IPv6' : 'IPv4'}`;
}

/**
 * What a firewall has to let through, by an answer's candidates (RFC 8839, 5.1; RFC 6544, 4.5):
 * "UDP port 20000 or TCP port 443 to 203.0.113.5". One of the addresses and one of the ports is enough.
 */
export function reachOf(answer) {
  const ports = { udp: new Set(), tcp: new Set() };
  const hosts = new Set();
  for (const [, protocol, host, port] of answer.matchAll(/^a=candidate:\S+ 1 (udp|tcp) \d+ (\S+) (\d+) /gim)) {
    ports[protocol.toLowerCase()].add(port);
    hosts.add(host);
  }
  const far = [...hosts].filter((host) => host !== '::1' && !host.startsWith('127.'));
  const all = Object.entries(ports).filter(([, numbers]) => numbers.size);
  if (!all.length) return '';
  const either = all.map(([protocol, numbers]) => `${protocol.toUpperCase()} port ${[...numbers].join(' or ')}`);
  return `${either.join(', or ')}, to ${(far.length ? far : [...hosts]).join(' or ')}`;
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
