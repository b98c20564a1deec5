/*
 * What a viewer really gets, measured in the page: pictures shown, time frozen, bitrate, latency.
 *
 * Latency is measured twice. From sender reports: the browser knows when a picture was captured, in its own
 * clock, once the node's sender reports and a round trip have told it (requestVideoFrameCallback's
 * `captureTime`; not in Firefox). From the picture itself, where the test pattern is shown (timecode.js).
 * Both end at `expectedDisplayTime`: when the picture is lit, not when it was decoded.
 */

import { TimeCodeReader, age } from './timecode.js';

const FREEZE_MS = 250; // a longer gap between two pictures is a freeze, and counts whole
const BITRATE_WINDOW_MS = 5000;
const LATENCY_WINDOW = 60; // pictures, two seconds' worth
const LATENCY_STALE_MS = 5000;

class RecentMedian {
  #values = [];
  #last = -Infinity;

  constructor(size) {
    this.size = size;
  }

  add(value) {
    this.#values.push(value);
    if (this.#values.length > this.size) this.#values.shift();
    this.#last = performance.now();
  }

  clear() {
    this.#values = [];
  }

  /** null when nothing came for a while: an old figure is not a figure. */
  get() {
    if (!this.#values.length || performance.now() - this.#last > LATENCY_STALE_MS) return null;
    const sorted = [...this.#values].sort((a, b) => a - b);
    return Math.round(sorted[sorted.length >> 1] * 10) / 10;
  }
}

export class Meter {
  frames = 0;
  firstFrameMs = null;
  bitrateBps = null;
  /** The last WhepSession.stats(), for the statistics panel. */
  stats = null;

  #askedAt = 0; // navigation start; later: when the page learnt that there is something to play
  #frozen = 0;
  #lastShown = null;
  #running = false;
  #presented = null;
  #reported = new RecentMedian(LATENCY_WINDOW);
  #pixels = new RecentMedian(LATENCY_WINDOW / 3);
  #reader = new TimeCodeReader();
  #samples = [];

  constructor() {
    document.addEventListener('visibilitychange', () => {
      // A hidden page is given no pictures: that is no freeze.
      this.#lastShown = null;
      this.#presented = null;
    });
  }

  get latencyMs() {
    return this.#reported.get();
  }

  get latencyPixelMs() {
    return this.#pixels.get();
  }

  get frozenMs() {
    return Math.round(this.#frozen + this.#gap(performance.now()));
  }

  /** From now on a viewer waits for the first picture (it had to wait for the broadcast until here). */
  asked() {
    if (this.firstFrameMs === null) this.#askedAt = performance.now();
  }

  /** Another session is on the screen: its counters start anew, ours go on. */
  switched() {
    this.#presented = null;
    this.#samples = [];
    this.#reported.clear();
    this.#pixels.clear();
    this.#reader.reset();
  }

  /** The show has ended: the time until the next one is no freeze. */
  paused() {
    this.#frozen += this.#gap(performance.now());
    this.#running = false;
    this.#lastShown = null;
    this.bitrateBps = null;
    this.stats = null;
    this.switched();
  }

  /** One picture was handed to the screen (requestVideoFrameCallback). */
  shown(video, metadata) {
    const now = performance.now();
    this.#frozen += this.#gap(now);
    this.#lastShown = now;
    this.#running = true;
    if (this.firstFrameMs === null) this.firstFrameMs = Math.round(now - this.#askedAt);
    this.frames += this.#presented === null ? 1 : Math.max(0, metadata.presentedFrames - this.#presented);
    this.#presented = metadata.presentedFrames;
    const display = metadata.expectedDisplayTime;
    if (metadata.captureTime > 0) this.#reported.add(display - metadata.captureTime);
    const code = this.#reader.read(video);
    // The wall clock at the moment the picture is lit. Not timeOrigin + display: that clock never follows a
    // correction of the machine's time, and the code in the picture is wall-clock time.
    if (code !== null) this.#pixels.add(age(code, Date.now() + (display - now)));
  }

  /** A reading of the session's counters, about twice a second. */
  counted(stats) {
    this.stats = stats;
    this.#samples.push(stats);
    while (this.#samples.length > 2 && stats.at - this.#samples[1].at >= BITRATE_WINDOW_MS) this.#samples.shift();
    const first = this.#samples[0];
    const seconds = (stats.at - first.at) / 1000;
    if (seconds >= 1) this.bitrateBps = Math.round(((stats.videoBytes - first.videoBytes) * 8) / seconds);
  }

  /** Time since the last picture, when that is long enough to be a freeze. */
  #gap(now) {
    if (!this.#running || this.#lastShown === null) return 0;
    const gap = now - this.#lastShown;
    return gap > FREEZE_MS ? gap : 0;
  }
}
