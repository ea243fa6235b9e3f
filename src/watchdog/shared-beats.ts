// Shared beats: what the main thread leaves in shared memory for the watchdog, which reads it while the main thread is blocked.

const BEATS = 0;
const INSPECTOR_PORT = 1;

export class SharedBeats {
  readonly buffer: SharedArrayBuffer;
  readonly #slots: Int32Array;

  constructor(buffer: SharedArrayBuffer = new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT)) {
    this.buffer = buffer;
    this.#slots = new Int32Array(buffer);
  }

  /** @param inspectorPort port at which the inspector listens, 0 if it does not */
  beat(inspectorPort: number): void {
    Atomics.store(this.#slots, INSPECTOR_PORT, inspectorPort);
    Atomics.add(this.#slots, BEATS, 1);
  }

  /** Wraps; only a change says something. */
  get beats(): number {
    return Atomics.load(this.#slots, BEATS);
  }

  get inspectorPort(): number {
    return Atomics.load(this.#slots, INSPECTOR_PORT);
  }
}
