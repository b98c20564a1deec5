/*
 * Server-sent events that come back by themselves, and that tell why they went.
 *
 * EventSource would do most of it, but it hides the status of a refusal, and browsers disagree on whether a
 * refused connection (a stream manager that restarts) is tried again. This reads the same format
 * (text/event-stream, the WHATWG HTML standard, 9.2) through fetch, and always tries again.
 */

const BACKOFF_MS = [250, 500, 1000, 2000, 4000];
const SILENCE_MS = 45_000; // the server sends a comment well within this; longer means a dead connection
const STEADY_MS = 5000; // a feed that lasted this long starts its delays anew

/** A delay with +-25 % of chance in it, so that a thousand pages do not come back in the same instant. */
export function spread(ms) {
  return ms * (0.75 + Math.random() * 0.5);
}

/** The events of a response's body as [name, text], as they come. */
async function* eventsOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let name = 'message';
  let data = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop();
    for (const line of lines) {
      const [, field, content] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (field === 'event') name = content;
      else if (field === 'data') data.push(content);
      else if (line === '') {
        if (data.length) yield [name, data.join('\n')];
        name = 'message';
        data = [];
      }
    }
    yield [null, '']; // a sign of life
  }
}

function parse(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {}; // an event without JSON still has its name
  }
}

/** The first event of this name that a feed sends, then hangs up; null when there is none to be had. */
export async function peek(url, wanted) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), 5000);
  try {
    const response = await fetch(url, { cache: 'no-store', signal: abort.signal });
    if (!response.ok) return null;
    for await (const [name, text] of eventsOf(response.body)) if (name === wanted) return parse(text);
    return null;
  } catch {
    return null;
  } finally {
    clearTimeout(timer);
    abort.abort();
  }
}

export class EventFeed {
  /** Whether events can arrive right now. */
  connected = false;

  #url;
  #handlers;
  #abort = null;
  #timer = null;
  #silence = null;
  #failures = 0;
  #stopped = false;

  /**
   * @param {string} url
   * @param {Object<string, function>} handlers  by event name, called with the parsed JSON data;
   *        `$gone` is called with the HTTP status when the server says there is no such feed (4xx).
   */
  constructor(url, handlers) {
    this.#url = url;
    this.#handlers = handlers;
    this.#run();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#silence);
    this.#abort?.abort();
    this.connected = false;
  }

  /** The network is said to be back: do not sit out the rest of a delay. */
  hurry() {
    if (this.#timer === null) return;
    clearTimeout(this.#timer);
    this.#failures = 0;
    this.#run();
  }

  async #run() {
    const startedAt = performance.now();
    this.#timer = null;
    this.#abort = new AbortController();
    try {
      this.#listen();
      const response = await fetch(this.#url, {
        headers: { Accept: 'text/event-stream' },
        cache: 'no-store',
        signal: this.#abort.signal,
      });
      if (response.ok && response.body) {
        this.connected = true;
        for await (const [name, text] of eventsOf(response.body)) {
          this.#listen();
          if (name !== null && !this.#stopped) this.#handlers[name]?.(parse(text));
        }
      } else if (response.status >= 400 && response.status < 500) {
        this.#handlers.$gone?.(response.status);
      }
    } catch {
      // refused, reset, or aborted by us: all the same, it is tried again below unless we stopped
    }
    this.connected = false;
    clearTimeout(this.#silence);
    if (this.#stopped) return;
    // Not on any byte received: a server that answers and hangs up at once must not be asked four times a second.
    if (performance.now() - startedAt > STEADY_MS) this.#failures = 0;
    const delay = BACKOFF_MS[Math.min(this.#failures++, BACKOFF_MS.length - 1)];
    this.#timer = setTimeout(() => this.#run(), spread(delay));
  }

  #listen() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#abort?.abort(), SILENCE_MS);
  }
}
