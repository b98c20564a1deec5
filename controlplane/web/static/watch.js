/*
 * The watch page: what is on the screen besides the picture, and the keys.
 *
 * Nothing is decided here. The player says in which state it is and why; this turns it into words, dims the
 * last picture when it stands still, and posts the measured latency when the stream manager wants to know.
 */

import { peek } from './events.js';
import { Meter } from './measure.js';
import { Player } from './player.js';

const { channel } = document.body.dataset;
const base = new URL('../', import.meta.url); // where this deployment lives, also behind a path prefix
const find = (id) => document.getElementById(id);
const [theatre, title, hint, pill, soundButton, fullButton, figuresButton, figures] = [
  'theatre', 'notice-title', 'notice-hint', 'pill', 'sound', 'full', 'info', 'figures',
].map(find);

/**
 * The query of a WHEP address: whom this viewer watches with, as its own address says, and by chance a word of
 * this page's, so that the stream manager counts it once while it waits. It is gone when the page is.
 */
function asking() {
  const said = new URLSearchParams(location.search);
  const [party, size] = [said.get('party') ?? '', said.get('size') ?? ''];
  const words = [];
  if (/^[A-Za-z0-9_-]{1,64}$/.test(party)) {
    words.push(`party=${party}`);
    if (/^([1-9]|[12]\d|3[0-2])$/.test(size)) words.push(`size=${size}`);
  }
  const chance = crypto.getRandomValues(new Uint8Array(12));
  words.push(`page=${Array.from(chance, (byte) => byte.toString(16).padStart(2, '0')).join('')}`);
  return `?${words.join('&')}`;
}

const meter = new Meter();
const channelFeed = new URL(`watch/${channel}/events`, base).href;
const player = new Player({
  endpoint: new URL(`whep/${channel}`, base).href,
  asking: asking(),
  feed: channelFeed,
  videos: [find('video-a'), find('video-b')],
  meter,
  onchange: () => render(),
});

// What tests and curious people may read; every figure is null while it is not known.
window.showcaller = Object.defineProperties(
  {},
  Object.fromEntries(
    Object.entries({
      state: () => player.state,
      reason: () => player.reason,
      firstFrameMs: () => meter.firstFrameMs,
      frames: () => meter.frames,
      frozenMs: () => meter.frozenMs,
      bitrateBps: () => meter.bitrateBps,
      latencyMs: () => meter.latencyMs,
      latencyPixelMs: () => meter.latencyPixelMs,
      codec: () => meter.stats?.codec ?? null,
      sessions: () => player.sessions,
      edge: () => player.edge,
      transport: () => meter.stats?.transport ?? null,
    }).map(([name, get]) => [name, { get, enumerable: true }]),
  ),
);

// -- words -----------------------------------------------------------------------------------------------

const AGAIN = 'It comes back by itself.';
const START = 'It starts here by itself.';

/** [in short, in large letters, what comes next] */
function words() {
  const seconds = Math.max(1, Math.round((player.detail ?? 0) / 1000));
  switch (player.reason) {
    case 'publisher':
      return ['No signal from the broadcaster', 'The broadcaster’s signal is gone', AGAIN];
    case 'full':
      return ['Every place is taken', 'Every place is taken', `Asking again every ${seconds} s. ${START}`];
    case 'codec':
      return withoutCodec(player.codec);
    case 'answer':
      return [
        'This browser cannot play the picture',
        'This browser cannot play the picture',
        'It did not take the server’s answer. Open this page in another browser. Trying again in a while.',
      ];
    case 'blocked':
      return [
        'This network blocks the video',
        'This network blocks the video',
        'Neither UDP nor TCP gets through to the server that sends it. Try another network, such as a phone’s' +
          (player.detail ? `, or ask whoever runs this one to allow ${player.detail}` : '') +
          '. Trying again every now and then.',
      ];
    case 'unsupported':
      return [
        'This browser cannot play live video',
        'This browser cannot play live video',
        'WebRTC is missing or switched off in it. Open this page in another browser.',
      ];
    case 'refused':
      return ['The server refused', 'The server refused this page', `${player.detail}. Trying again.`];
    case 'server':
      return ['The server does not answer', 'The server does not answer', `Trying again. ${START}`];
    default:
  }
  switch (player.state) {
    case 'playing':
      return ['Live', '', ''];
    case 'reconnecting':
      return ['Connection lost', 'Connection lost', 'Getting it back.'];
    case 'ended':
      return ['The broadcast has ended', 'The broadcast has ended', `When there is another one, ${START.toLowerCase()}`];
    case 'connecting':
      return ['Connecting', 'Connecting', ''];
    default:
      return ['Waiting for the broadcast', 'Waiting for the broadcast', START];
  }
}

/** The broadcast is of a kind that this browser cannot show; nothing is tried until that changes. */
function withoutCodec(codec) {
  const name = { H264: 'H.264' }[codec] ?? codec;
  const what = name
    ? `This broadcast is ${name} and this browser has none`
    : 'This broadcast is of a kind that this browser has no decoder for';
  const next =
    codec === 'H264'
      ? 'Open this page in Chrome, Edge or Safari, or switch on the OpenH264 plug-in in Firefox.'
      : 'Open this page in another browser, or bring this one up to date.';
  return [what, what, next];
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text; // or a screen reader would say it again
}

function render() {
  const { state, muted } = player;
  const [short, large, next] = words();
  theatre.dataset.state = state;
  theatre.dataset.reason = player.reason;
  setText(find('status-short'), short);
  setText(find('status-more'), next && `. ${next}`); // seen in large letters, heard from here
  setText(title, large);
  setText(hint, next);
  document.title = state === 'playing' ? `● ${channel} · Showcaller` : `${channel} · Showcaller`;

  const counted = watching(state);
  setText(find('viewers'), counted === null ? '' : `${counted} watching`);
  const latency = meter.latencyMs ?? meter.latencyPixelMs;
  setText(find('latency'), latency === null || state !== 'playing' ? '' : `${duration(latency)} behind live`);

  pill.hidden = !(player.needsTouch || (state === 'playing' && muted));
  setText(find('pill-text'), player.needsTouch ? 'Play' : 'Turn sound on');
  const press = muted ? 'Turn sound on (m)' : 'Turn sound off (m)'; // what it does, not how it is
  soundButton.setAttribute('aria-label', press);
  soundButton.title = press;
  theatre.dataset.muted = muted;
  if (!figures.hidden) renderFigures();
}

/**
 * How many watch; null where nobody can say: the count that was there before the broadcast ended, or before the
 * stream manager went away, says nothing of now. Whoever sees the picture is one of them, also before the manager
 * has counted.
 */
function watching(state) {
  if (state === 'playing') return player.viewers === null ? null : Math.max(1, player.viewers);
  return ['connecting', 'reconnecting'].includes(state) && player.told ? player.viewers : null;
}

function duration(ms) {
  return ms < 995 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function renderFigures() {
  const { stats } = meter;
  const unknown = '–';
  const known = (value, text) => (value === null || value === undefined ? unknown : text(value));
  const ms = (value) => known(value, (v) => `${v < 10 ? v.toFixed(1) : Math.round(v)} ms`);
  const values = {
    picture: known(stats?.width, () => `${stats.width} × ${stats.height}, ${known(stats.framesPerSecond, (v) => `${Math.round(v)} fps`)}`),
    codec: known(stats?.codec, (v) => v),
    bitrate: known(meter.bitrateBps, (v) => `${(v / 1e6).toFixed(2)} Mbps`),
    'latency-reports': ms(meter.latencyMs),
    'latency-pixels': ms(meter.latencyPixelMs),
    'first-frame': ms(meter.firstFrameMs),
    frozen: ms(meter.frozenMs),
    lost: known(stats?.packetsLost, (v) => `${v} of ${v + stats.packetsReceived} packets`),
    buffer: ms(stats?.bufferMs),
    'round-trip': ms(stats?.roundTripMs),
    transport: known(stats?.transport, (v) => v),
    sessions: String(player.sessions),
    edge: known(player.edge, (v) => v),
  };
  for (const [name, text] of Object.entries(values)) setText(find(`figure-${name}`), text);
  find('figure-edge').parentElement.hidden = player.edge === null;
}

// -- controls --------------------------------------------------------------------------------------------

function toggleSound() {
  player.muted = !player.muted;
  player.play();
}

function pillPressed() {
  if (!player.needsTouch) player.muted = false;
  player.play();
  soundButton.focus({ preventScroll: true }); // the pill goes away; the keyboard must not fall off the page
}

async function toggleFull() {
  try {
    if (document.fullscreenElement) await document.exitFullscreen();
    else if (theatre.requestFullscreen) await theatre.requestFullscreen();
    else player.video.webkitEnterFullscreen?.(); // iPhones know full screen for the video alone
  } catch {
    // refused by the browser: the picture stays as large as it was
  }
}

function toggleFigures() {
  figures.hidden = !figures.hidden;
  figuresButton.setAttribute('aria-expanded', String(!figures.hidden));
  render();
}

pill.addEventListener('click', pillPressed);
soundButton.addEventListener('click', toggleSound);
fullButton.addEventListener('click', toggleFull);
figuresButton.addEventListener('click', toggleFigures);
find('screen').addEventListener('dblclick', toggleFull);

document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const action = { m: toggleSound, f: toggleFull, i: toggleFigures }[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
});

// In full screen the bar goes away while nobody moves, and comes back with any movement, touch or key.
let idle = null;
function awake() {
  delete theatre.dataset.idle;
  clearTimeout(idle);
  idle = setTimeout(() => {
    theatre.dataset.idle = '';
  }, 3000);
}
for (const name of ['pointermove', 'pointerdown', 'keydown', 'focusin', 'fullscreenchange']) {
  document.addEventListener(name, awake, { passive: true });
}

// -- telling the stream manager ----------------------------------------------------------------------------

const REPORT_MS = 1000; // until the manager says how often it wants to hear
const COUNT_MS = 10_000; // how often a page asks for the number of viewers when it has no latency to report

/** Posts the latency; the answer says when to do so again. null when it could not be posted. */
async function post(url, latency) {
  try {
    const response = await fetch(url, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({
        latency_ms: Math.max(0, latency),
        first_frame_ms: meter.firstFrameMs,
        frozen_ms: meter.frozenMs,
        bitrate_bps: meter.bitrateBps,
      }),
      signal: AbortSignal.timeout(5000),
    });
    return response.ok ? await response.json() : null;
  } catch {
    return null; // the manager is away: the media goes on without it, and so do we
  }
}

let countedAt = -Infinity;

async function report() {
  let wait = REPORT_MS;
  if (player.state === 'playing') {
    const latency = meter.latencyMs ?? meter.latencyPixelMs;
    const url = player.session?.latencyUrl;
    const order = url && latency !== null ? await post(url, latency) : null;
    if (order) wait = Math.max(REPORT_MS, (order.interval_s ?? 0) * 1000);
    // The number of viewers comes along, or is asked for at the same pace: no connection is kept for it.
    if (Number.isInteger(order?.viewers)) player.counted(order.viewers);
    else if (!document.hidden && (order || performance.now() - countedAt > COUNT_MS)) {
      countedAt = performance.now();
      player.counted((await peek(channelFeed, 'state'))?.viewers);
    }
  } else {
    countedAt = -Infinity;
  }
  setTimeout(report, wait);
}

// -- life of the page --------------------------------------------------------------------------------------

addEventListener('pagehide', () => player.stop());
addEventListener('pageshow', (event) => {
  if (event.persisted) player.start();
});
addEventListener('online', () => player.networkChanged());
// Where a browser tells the kind of network (phones do), a change of it is one of address too.
let network = navigator.connection?.type;
navigator.connection?.addEventListener?.('change', () => {
  const before = network;
  network = navigator.connection.type;
  if (network !== before && network !== 'none') player.networkChanged();
});
document.addEventListener('visibilitychange', () => {
  if (!document.hidden) player.hurry();
});

render();
awake();
player.start();
setInterval(render, 500);
setTimeout(report, REPORT_MS);
