/*
 * The time code that the test pattern carries in its pixels: when each picture was captured.
 *
 * Top left of the picture, 48 blocks in a row, black or white: a sync of white-black-white-black, 40 bits of
 * Unix time in milliseconds (modulo 2^40, highest bit first), 4 bits of checksum (the ten 4-bit groups XORed).
 * A block is floor(width / 64) pixels wide, rounded down to even; the row starts two blocks in and one block
 * down, and is two blocks high. Read back, it is glass-to-glass latency with nothing estimated.
 */

const BLOCKS = 48;
const SYNC = [1, 0, 1, 0];
const WRAP = 2 ** 40;
const CELL = 4; // canvas pixels a block: its middle is what is looked at, its edges belong to the neighbours
const READ_EVERY_MS = 100;
const GIVE_UP_AFTER_MS = 5000;
const LOOK_AGAIN_MS = 5000;

/** Milliseconds of Unix time modulo 2^40, or null: no code there, or a damaged one. */
export function decode(levels) {
  const white = (levels[0] + levels[2]) / 2;
  const black = (levels[1] + levels[3]) / 2;
  if (white - black < 60) return null;
  const threshold = (white + black) / 2;
  const bits = Array.from(levels, (level) => (level > threshold ? 1 : 0));
  if (SYNC.some((bit, index) => bits[index] !== bit)) return null;
  let time = 0;
  let checksum = 0;
  for (let index = 4; index < BLOCKS; index += 4) {
    const nibble = (bits[index] << 3) | (bits[index + 1] << 2) | (bits[index + 2] << 1) | bits[index + 3];
    if (index < 44) time = time * 16 + nibble;
    checksum ^= nibble; // over all eleven: the last one is the checksum, so a good code gives 0
  }
  return checksum === 0 ? time : null;
}

/** How long ago `code` was, at Unix time `wallMs`; may be below zero where clocks differ. */
export function age(code, wallMs) {
  const difference = (((wallMs - code) % WRAP) + WRAP) % WRAP;
  return difference > WRAP / 2 ? difference - WRAP : difference;
}

export class TimeCodeReader {
  #canvas = document.createElement('canvas');
  #context;
  #lastRead = -Infinity;
  #lastGood = performance.now();

  constructor() {
    this.#canvas.width = BLOCKS * CELL;
    this.#canvas.height = CELL;
    // Read back ten times a second: keep it in memory, not on the graphics card.
    this.#context = this.#canvas.getContext('2d', { willReadFrequently: true, alpha: false });
  }

  /** Another picture source: look for a code at once again. */
  reset() {
    this.#lastGood = performance.now();
    this.#lastRead = -Infinity;
  }

  /**
   * The code in the picture the video shows now, or null. Looks at most ten times a second, and once in five
   * seconds while there is none: most broadcasts carry no code, and reading pixels back is not free.
   */
  read(video) {
    const now = performance.now();
    const absent = now - this.#lastGood > GIVE_UP_AFTER_MS;
    if (now - this.#lastRead < (absent ? LOOK_AGAIN_MS : READ_EVERY_MS)) return null;
    this.#lastRead = now;
    const block = Math.floor(video.videoWidth / 64 / 2) * 2;
    if (block < 4) return null;
    const { width, height } = this.#canvas;
    this.#context.drawImage(video, 2 * block, block, BLOCKS * block, 2 * block, 0, 0, width, height);
    const pixels = this.#context.getImageData(0, 0, width, height).data;
    const levels = new Float32Array(BLOCKS);
    for (let index = 0; index < BLOCKS; index += 1) {
      let sum = 0;
      for (const [x, y] of [[1, 1], [2, 1], [1, 2], [2, 2]]) sum += pixels[(y * width + index * CELL + x) * 4 + 1];
      levels[index] = sum / 4;
    }
    const code = decode(levels);
    if (code !== null) this.#lastGood = now;
    return code;
  }
}
