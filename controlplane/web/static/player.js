/*
 * The player: keeps one live picture on the screen, whatever happens behind it.
 *
 * At most two legs exist at a time. `live` is the one on the screen; `next` is being made. A leg is one WHEP
 * session and one of the two video elements. A leg takes the screen when its first picture is there and not
 * before (make before break), so a move to another edge cannot be seen, and a lost picture stays, dimmed,
 * until there is a new one.
 *
 *   what happens                                   what the player does
 *   nothing on air (409)                           waits: the channel's events, and asks again now and then
 *   event `move` on the session                    makes `next` at once; `live` plays on meanwhile
 *   event `move` with an address                   the same, by the seat that is kept there for this page, once; when
 *                                                  that comes to nothing `live` plays on, and another one is told
 *   ICE failed or disconnected, another network,
 *   or nothing received for 2 s                    restarts ICE, and gives `live` 1.5 s to come back by that
 *   that is of no use, DTLS closed, or
 *   no new picture for 2 s                         makes `next`, again and again with backoff
 *   session's state is `waiting` (publisher gone)  holds the last picture: the node keeps our place, also for
 *                                                  two seconds after its return, until there are pictures
 *   stream manager gone                            nothing: media does not pass it; the events come back
 *   event `ended`, or 409 while nothing comes      ends both legs, waits
 *   503 no room                                    says so, asks again later
 *   406 the broadcast's codec is not had here      says so, and asks no more until another codec is on air, or
 *                                                  this browser has got a decoder for it
 *   the publisher comes back with another codec    the edge closes the session: a new one, as for a lost one
 *   an answer, but the node cannot be reached      says so, asks again: this network lets neither UDP nor TCP through
 *
 * The channel's own events are only listened to while there is nothing to see: a browser opens six connections
 * to a server for all its windows (HTTP/1.1), and each window that plays keeps one for its session's events.
 *
 * What is on the screen is told by `state` (one of the five words below) and `reason` (why).
 */

import { EventFeed, spread } from './events.js';
import { WhepError, WhepSession } from './whep.js';

const TICK_MS = 250;
const NO_PICTURE_MS = 2000;
const FIRST_PICTURE_MS = 5000;
const NOTHING_MS = 1500; // a node is heard each second, whether there are pictures or not
const RESTART_MS = 1500; // what an ICE restart may take until there is a picture again
const HOLD_MS = 15_000; // a publisher that vanished has 10 s to come back before its stream ends
const STEADY_MS = 5000;
const BACKOFF_MS = [0, 500, 1000, 2000, 4000];
const ASK_AGAIN_MS = 8000; // while waiting: events should tell first
const DECODER_MS = 5000; // how often to look for a decoder: Firefox fetches its H.264 plug-in after its first start
const ANSWER_AGAIN_MS = 60_000; // after an answer that the browser did not take
const FULL_AGAIN_MS = 5000;
const BLOCKED_AGAIN_MS = 10_000; // a network does not change its mind every second
const REPLACED_MS = 10_000; // a dead edge is replaced well within this
const ENDED_SHOWN_MS = 8000;
const SMOOTH_PICTURES = 3; // while another session plays on: after the first picture there may be a pause
const SMOOTH_GAP_MS = 100; // at most between those
const SMOOTH_WAIT_MS = 600; // a slow source never has so many in such a time: then it is waited no longer

/** The names of the video codecs that this browser can receive now, as the stream manager writes them. */
function decoders() {
  const codecs = RTCRtpReceiver.getCapabilities?.('video')?.codecs ?? [];
  return new Set(codecs.map(({ mimeType }) => mimeType.replace(/^video\//i, '').toUpperCase()));
}

export class Player {
  /** @type {"waiting"|"connecting"|"playing"|"reconnecting"|"ended"} */
  state = 'connecting';
  /**
   * Why, for the words: '', 'network', 'blocked', 'publisher', 'server', 'full', 'codec', 'answer', 'refused',
   * 'unsupported'.
   */
  reason = '';
  /**
   * What the server said, where `reason` is 'refused'; milliseconds where it is 'full'; what a firewall would
   * have to let through where it is 'blocked'.
   */
  detail = null;
  viewers = null;
  edge = null;
  /** What the pictures are coded in ('H264', 'VP8'), as the channel's events say; null while that is not known. */
  codec = null;
  sessions = 0;
  /** The browser refuses to play even without sound (some do, to save power) until it is touched. */
  needsTouch = false;

  #endpoint;
  #asking;
  #videos;
  #meter;
  #onchange;
  #onAir = null;
  #live = null;
  #next = null;
  #channelFeed = null;
  #feedUrl;
  #retryTimer = null;
  #endedTimer = null;
  #attempts = 0;
  #refusedCodec = null; // for want of which we were refused
  #refusedDecoders = new Set(); // what the browser had when it asked
  #decodersAt = 0;
  #muted = true; // browsers start a page by itself only without sound
  #moving = false;
  #ticking = null;

  constructor({ endpoint, asking = '', feed, videos, meter, onchange }) {
    this.#endpoint = endpoint;
    this.#asking = asking; // a query; whoever is invited is known to the manager already
    this.#feedUrl = feed;
    this.#videos = videos;
    this.#meter = meter;
    this.#onchange = onchange;
  }

  /** The video element on the screen. */
  get video() {
    return this.#live?.video ?? this.#videos[0];
  }

  get session() {
    return this.#live?.session ?? null;
  }

  /** Whether the stream manager is heard of now: what it said of the viewers still holds. */
  get told() {
    return Boolean(this.#channelFeed?.connected || this.#live?.feed?.connected);
  }

  get muted() {
    return this.#muted;
  }

  set muted(muted) {
    this.#muted = muted;
    if (this.#live) this.#live.video.muted = muted;
    this.#onchange();
  }

  /** After a touch or a key: what the browser did not start by itself may start now. */
  play() {
    this.needsTouch = false;
    for (const leg of [this.#live, this.#next]) leg?.video.play().catch(() => {});
    this.#onchange();
  }

  start() {
    if (typeof RTCPeerConnection === 'undefined') {
      this.#say('waiting', 'unsupported');
      return;
    }
    this.#attempts = 0;
    this.#moving = false;
    this.#say('connecting');
    this.#followChannel();
    this.#ticking = setInterval(() => this.#tick(), TICK_MS);
    this.#join();
  }

  /** The page goes away (it may come back from the browser's cache: then start() again). */
  stop() {
    clearInterval(this.#ticking);
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#endedTimer);
    this.#retryTimer = null;
    this.#channelFeed?.stop();
    this.#channelFeed = null;
    this.#dropBoth();
  }

  /** The browser says that the network is back, or the page is looked at again. */
  hurry() {
    this.#channelFeed?.hurry();
    this.#live?.feed?.hurry();
    if (this.#retryTimer !== null && this.reason !== 'full') this.#retry(0);
  }

  /** The network is another one, or back: look for a way to the node before the loss is felt. */
  networkChanged() {
    this.hurry();
    if (this.#live) this.#restart(this.#live);
  }

  // -- what the stream manager tells ---------------------------------------------------------------------

  #followChannel() {
    this.#channelFeed ??= new EventFeed(this.#feedUrl, {
      state: ({ on_air: onAir, viewers, video_codec: codec }) => {
        const began = onAir && this.#onAir !== true;
        this.#onAir = onAir;
        this.codec = codec ?? null;
        this.counted(viewers);
        if (this.reason === 'codec') {
          if (!onAir) this.#say('waiting'); // for another broadcast, which may be another matter
          else if (this.codec !== this.#refusedCodec) this.#join();
          this.#onchange();
        } else if (began && !this.#live && this.reason !== 'full') {
          // 'full' keeps its own delay: that something is on air is not news to it.
          this.#attempts = 0;
          this.#join();
        }
      },
    });
  }

  #followChannelWhileNeeded() {
    if (this.#live?.feed?.connected && this.#fresh(this.#live)) {
      this.#channelFeed?.stop();
      this.#channelFeed = null;
    } else {
      this.#followChannel();
    }
  }

  #followSession(leg) {
    leg.feed = new EventFeed(leg.session.eventsUrl, {
      state: ({ state, viewers, edge }) => {
        if (leg.told === 'waiting' && state === 'live') leg.backAt = performance.now();
        leg.told = state ?? leg.told;
        leg.edge = edge ?? leg.edge;
        this.counted(viewers);
        if (state === 'ended') this.#toldEnded(leg);
        else if (leg === this.#live) this.edge = leg.edge;
        this.#onchange();
      },
      move: ({ url }) => {
        if (url) {
          this.#invited(leg, url);
          return;
        }
        if (leg.moved) return; // said again after a reconnection; retries are under way
        leg.moved = true;
        this.#moving = true;
        // At once where it has played for a while; sessions that end as soon as they begin are not made faster
        // than any others that fail.
        if (leg === this.#next) this.#abandonNext();
        else if (performance.now() - leg.since > STEADY_MS) this.#attempts = 0;
        if (!this.#next) this.#retry(this.#backoff());
      },
      ended: () => this.#toldEnded(leg),
      $gone: () => {
        // The manager knew the session and no longer does, so it could not tell of a move: get one it knows.
        if (leg.told === null || leg !== this.#live) return;
        this.#moving = true;
        this.#retryIfIdle();
      },
    });
  }

  /** A seat is kept for us elsewhere: the session for it is made beside the one that plays. */
  #invited(leg, url) {
    const { search } = new URL(url, leg.session.url);
    if (leg !== this.#live) {
      leg.invitation = search; // it has yet to show a picture: then it is made use of
      return;
    }
    if (this.#next && !this.#next.guided) return; // the picture is lost, and a session is being made for that
    if (this.#next) this.#abandonNext();
    this.#join(search);
  }

  #toldEnded(leg) {
    if (leg === this.#live || !this.#live || !this.#fresh(this.#live)) this.#ended();
    else this.#abandonNext();
  }

  /** How many watch, as the stream manager says. */
  counted(viewers) {
    if (Number.isInteger(viewers) && viewers !== this.viewers) {
      this.viewers = viewers;
      this.#onchange();
    }
  }

  // -- making a leg --------------------------------------------------------------------------------------

  /** `invitation` is the query of an address that a seat is kept at for us; '' for any. */
  async #join(invitation = '') {
    if (this.#next) return;
    clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
    if (this.state === 'waiting' || this.state === 'ended') {
      this.#meter.asked();
      if (this.#onAir) this.#say('connecting');
    }
    const session = new WhepSession();
    const leg = {
      session,
      decoders: decoders(), // that the offer names
      codec: this.codec, // that it was made for
      video: this.#videos.find((video) => video !== this.#live?.video),
      feed: null,
      told: null, // the session's state as the manager tells it: live, waiting
      backAt: null, // when the publisher was told to be back
      edge: null,
      openedAt: null,
      decoded: 0,
      received: null,
      receivedAt: null, // when anything came
      restarting: false,
      restarted: false, // since there were pictures last
      lastPictureAt: null,
      moved: false, // told to go elsewhere
      guided: invitation !== '', // made by an invitation: when it comes to nothing, another one will be told
      invitation: null, // told before it had a picture
      firstPictureAt: null,
      pictures: 0, // in a row, without a pause
      lost: false, // its transport is gone
      dropped: false,
    };
    this.#next = leg;
    try {
      await session.open(this.#endpoint + (invitation || this.#asking));
    } catch (error) {
      session.close(); // also after a failure it does not know of
      if (leg.dropped) return;
      this.#next = null;
      if (leg.guided) this.#retryIfIdle(); // which does nothing while `live` plays
      else this.#refused(error, leg);
      return;
    }
    if (leg.dropped) return; // session.close() was called on the way and has deleted the resource
    this.sessions += 1;
    leg.openedAt = performance.now();
    session.onlost = (over) => this.#lost(leg, over);
    if (session.url) this.#followSession(leg);
    // While the network blocks us, that is what is said until there is a picture.
    const said = this.state === 'reconnecting' || this.reason === 'blocked';
    if (!this.#live && !said) this.#say('connecting');
    leg.video.muted = true; // the sound follows the picture when the leg takes the screen
    leg.video.srcObject = session.stream;
    leg.video.play().catch((error) => {
      if (error.name !== 'NotAllowedError') return; // an abort by a later step is not news
      this.needsTouch = true;
      this.#onchange();
    });
    this.#watchPictures(leg);
  }

  #refused(error, leg) {
    const { status, retryAfterMs } = error instanceof WhepError ? error : { status: 0, retryAfterMs: null };
    const after = (ms) => spread(Math.max(retryAfterMs ?? 0, ms));
    const shown = this.#live && this.#fresh(this.#live);
    // 409 as the WHEP draft has it; 404 as managers before it answered, and other servers do.
    if (status === 409 || status === 404) {
      if (shown) return this.#retry(this.#backoff());
      if (this.#live && this.#onAir && this.#channelFeed?.connected) {
        // The channel still counts as on air: its publisher has some seconds to come back.
        this.#say('reconnecting', 'publisher');
        return this.#retry(this.#backoff() || TICK_MS);
      }
      if (this.#live) return this.#ended();
      if (this.state !== 'ended') this.#say('waiting');
      // On air by the events and yet refused: it is on its way, so ask soon.
      return this.#retry(this.#onAir ? after(this.#backoff()) : after(ASK_AGAIN_MS));
    }
    if (status === 503 || status === 429) {
      const wait = Math.max(retryAfterMs ?? FULL_AGAIN_MS, 1000);
      // When an edge dies there is no room until another one stands: that is no full house yet.
      const since = performance.now() - (this.#live?.lastPictureAt ?? -Infinity);
      if (!this.#live) this.#say('waiting', 'full', wait);
      else if (!shown) this.#say('reconnecting', since < REPLACED_MS ? 'network' : 'full', wait);
      return this.#retry(spread(wait));
    }
    if (status === 406) {
      if (shown && !this.#live.lost) return this.#retry(after(this.#backoff()));
      return this.#missesCodec(leg);
    }
    if (status === 415) {
      if (!shown) this.#say('waiting', 'answer');
      return this.#retry(after(ANSWER_AGAIN_MS));
    }
    const delay = after(this.#backoff());
    if (!shown) {
      const state = this.#live ? 'reconnecting' : this.state;
      if (status === 0 || status >= 500) this.#say(state, 'server');
      else this.#say(state, 'refused', error.message);
    }
    return this.#retry(delay);
  }

  /** The offer had nothing of what is on air, and so would the next one: only news leads on from here. */
  #missesCodec(leg) {
    this.#dropBoth();
    this.#moving = false;
    this.#attempts = 0;
    if (!this.#channelFeed?.connected) this.codec = null; // what we know is of before
    this.#refusedCodec = (this.codec && leg.codec) ?? this.codec;
    this.#refusedDecoders = leg.decoders;
    this.#say('waiting', 'codec');
    if (this.codec !== this.#refusedCodec) this.#retry(this.#backoff()); // it has changed since it was asked
  }

  /** Whether this browser has got a decoder since, for what is on air. */
  #gotDecoder(now) {
    if (now - this.#decodersAt < DECODER_MS) return false;
    this.#decodersAt = now;
    return decoders().has(this.codec) && !this.#refusedDecoders.has(this.codec);
  }

  #backoff() {
    const ms = BACKOFF_MS[Math.min(this.#attempts, BACKOFF_MS.length - 1)];
    this.#attempts += 1;
    return ms && spread(ms);
  }

  #retry(ms) {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = setTimeout(() => {
      this.#retryTimer = null;
      const healthy = this.#live && this.#fresh(this.#live);
      if (!healthy || this.#moving) this.#join();
    }, ms);
  }

  #retryIfIdle() {
    if (!this.#next && this.#retryTimer === null) this.#retry(this.#backoff());
  }

  // -- pictures ------------------------------------------------------------------------------------------

  #watchPictures(leg) {
    const { video } = leg;
    if (!video.requestVideoFrameCallback) return; // then the decoder's own count has to do (tick)
    const shown = (_now, metadata) => {
      if (leg.dropped) return;
      video.requestVideoFrameCallback(shown);
      this.#alive(leg);
      if (leg === this.#live) this.#meter.shown(video, metadata);
    };
    video.requestVideoFrameCallback(shown);
  }

  /** A new picture of this leg exists. */
  #alive(leg) {
    const now = performance.now();
    leg.firstPictureAt ??= now;
    leg.pictures = now - (leg.lastPictureAt ?? now) <= SMOOTH_GAP_MS ? leg.pictures + 1 : 1;
    leg.lastPictureAt = now;
    if (!leg.restarting) leg.restarted = false;
    if (leg === this.#next && this.#smooth(leg)) this.#takeScreen(leg);
    if (leg === this.#live && this.state !== 'playing') this.#say('playing');
  }

  /** Whether the pictures of a leg that is to take the screen come evenly; nobody waits for that without a picture. */
  #smooth(leg) {
    if (!this.#live || !this.#fresh(this.#live) || document.hidden) return true;
    if (!leg.video.requestVideoFrameCallback) return true;
    return leg.pictures >= SMOOTH_PICTURES || performance.now() - leg.firstPictureAt > SMOOTH_WAIT_MS;
  }

  #fresh(leg) {
    return leg.lastPictureAt !== null && performance.now() - leg.lastPictureAt < NO_PICTURE_MS;
  }

  #takeScreen(leg) {
    const old = this.#live;
    this.#live = leg;
    this.#next = null;
    this.#moving = false;
    leg.since = performance.now();
    this.edge = leg.edge;
    clearTimeout(this.#endedTimer);
    leg.video.classList.add('front');
    this.#meter.switched();
    this.needsTouch = false;
    leg.video.muted = this.#muted;
    if (leg.video.paused) {
      // Some browsers allow sound only to the very element that was touched: better mute than standing still.
      this.muted = true;
      leg.video.play().catch(() => {});
    }
    if (old) this.#drop(old);
    if (leg.invitation !== null) this.#join(leg.invitation);
  }

  #lost(leg, over) {
    if (leg === this.#next) {
      if (over || leg.session.connected) {
        this.#abandonNext();
        this.#retryIfIdle();
      } else {
        this.#blocked(leg);
      }
    } else if (leg === this.#live) {
      if (!over && !leg.restarted) this.#restart(leg);
      else if (!leg.restarting) this.#replace(over);
    }
  }

  /** The node answered through the stream manager, but no packet of ours came through to it. */
  #blocked(leg) {
    const { reach } = leg.session;
    this.#abandonNext();
    if (!this.#live) this.#say(this.state === 'reconnecting' ? 'reconnecting' : 'connecting', 'blocked', reach);
    else if (!this.#fresh(this.#live)) this.#say('reconnecting', 'blocked', reach);
    this.#retry(spread(BLOCKED_AGAIN_MS));
  }

  /** Make another session in place of `live`, even if its last picture is fresh: no other will come. */
  #replace(over = false) {
    this.#live.lost = over;
    this.#moving = true;
    this.#retryIfIdle();
  }

  /** Look for another way to the node of `live`; should there be none in time, for another node. */
  async #restart(leg) {
    if (leg.restarting) return;
    leg.restarting = leg.restarted = true;
    const began = performance.now();
    const late = new Promise((resolve) => setTimeout(resolve, RESTART_MS, false));
    const taken = leg.session.restart().then(
      () => true,
      () => null,
    );
    const answered = await Promise.race([taken, late]);
    const cameBack = () => leg.lastPictureAt > began && this.#fresh(leg);
    while (answered && leg === this.#live && !cameBack() && performance.now() - began < RESTART_MS) {
      await new Promise((resolve) => setTimeout(resolve, TICK_MS / 5));
    }
    leg.restarting = false;
    // Where the server does not restart, pictures that still come are no reason to begin anew.
    if (leg === this.#live && !cameBack() && !(answered === null && this.#fresh(leg))) this.#replace();
  }

  async #tick() {
    await Promise.all([this.#count(this.#live), this.#count(this.#next)]);
    const now = performance.now();
    this.#followChannelWhileNeeded();
    const { live: leg, next } = { live: this.#live, next: this.#next };
    const late = next?.openedAt && now - next.openedAt > FIRST_PICTURE_MS;
    if (late && !next.session.connected) {
      this.#blocked(next);
    } else if (late && !this.#held(next)) {
      this.#abandonNext();
      if (!leg) this.#say(this.state === 'reconnecting' ? 'reconnecting' : 'connecting', 'network');
      this.#retryIfIdle();
    }
    if (this.reason === 'codec' && !next && this.#gotDecoder(now)) this.#join();
    if (!leg) return;
    if (this.#fresh(leg)) {
      if (now - leg.since > STEADY_MS) this.#attempts = 0;
      // It came back by itself while a replacement was on its way: no need of that.
      if (next && !this.#moving && !next.guided) this.#abandonNext();
    } else {
      const why = this.#whyStill(leg);
      this.#say('reconnecting', why, why === this.reason ? this.detail : null);
      if (this.#onAir === false && this.#channelFeed?.connected) this.#ended();
      else if (!next && !this.#moving && !leg.restarted && this.#hearsNothing(leg)) this.#restart(leg);
      else if (leg.restarting) return;
      else if (this.#moving || !this.#held(leg)) this.#retryIfIdle();
    }
  }

  /** Not even reports: it is the way to the node that is lost, or the node. */
  #hearsNothing(leg) {
    return leg.receivedAt !== null && performance.now() - leg.receivedAt > NOTHING_MS;
  }

  /**
   * No picture, but the node keeps our place and waits for the publisher itself, or for the first picture of one
   * that has just come back: another session gains nothing.
   */
  #held(leg) {
    const now = performance.now();
    const back = leg.backAt !== null && now - leg.backAt < NO_PICTURE_MS;
    const still = now - (leg.lastPictureAt ?? leg.openedAt);
    return (leg.told === 'waiting' || back) && leg.feed?.connected && still < HOLD_MS;
  }

  /** The reason for a picture that stands still; what a refusal said last is kept. */
  #whyStill(leg) {
    if (leg.told === 'waiting' || this.#next?.told === 'waiting') return 'publisher';
    if (['server', 'full', 'answer', 'refused', 'blocked'].includes(this.reason)) return this.reason;
    return 'network';
  }

  async #count(leg) {
    if (!leg?.openedAt || leg.counting) return;
    if (leg.countedAt && performance.now() - leg.countedAt < 2 * TICK_MS - 20) return;
    leg.counting = true;
    leg.countedAt = performance.now();
    const stats = await leg.session.stats().catch(() => null);
    leg.counting = false;
    if (!stats || leg.dropped) return;
    if (stats.received !== null && stats.received !== leg.received) {
      leg.received = stats.received;
      leg.receivedAt = performance.now();
    }
    // A hidden page gets no picture callbacks, but it decodes: that is a picture too.
    if (stats.framesDecoded > leg.decoded) {
      leg.decoded = stats.framesDecoded;
      if (leg === this.#live || document.hidden || !leg.video.requestVideoFrameCallback) this.#alive(leg);
    }
    if (leg === this.#live) this.#meter.counted(stats);
  }

  // -- endings -------------------------------------------------------------------------------------------

  #ended() {
    const had = this.#live !== null || this.#next !== null;
    this.#dropBoth();
    this.#moving = false;
    this.#attempts = 0;
    this.#onAir = false;
    if (had || this.state === 'reconnecting' || this.state === 'playing') {
      this.#say('ended');
      clearTimeout(this.#endedTimer);
      this.#endedTimer = setTimeout(() => {
        if (this.state === 'ended') this.#say('waiting');
      }, ENDED_SHOWN_MS);
    } else if (this.state !== 'ended') {
      this.#say('waiting');
    }
    this.#retry(spread(ASK_AGAIN_MS));
  }

  #dropBoth() {
    if (this.#next) this.#abandonNext();
    if (this.#live) this.#drop(this.#live);
    this.#live = null;
    this.edge = null;
    this.#meter.paused();
  }

  #abandonNext() {
    const leg = this.#next;
    this.#next = null;
    this.#drop(leg);
  }

  #drop(leg) {
    leg.dropped = true;
    leg.feed?.stop();
    leg.session.onlost = () => {};
    leg.session.close();
    leg.video.classList.remove('front');
    leg.video.muted = true;
    leg.video.srcObject = null;
  }

  #say(state, reason = '', detail = null) {
    if (this.state === state && this.reason === reason && this.detail === detail) return;
    this.state = state;
    this.reason = reason;
    this.detail = detail;
    this.#onchange();
  }
}
