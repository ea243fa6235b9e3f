// CRC-32 (IEEE): Redis' log has none over values, so a flipped bit would load silently (attack B18).

import { crc32 as nativeCrc32 } from "node:zlib";

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let bit = 0; bit < 8; bit += 1) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c;
});

/** Below this the call into native code costs more than the loop. */
const NATIVE_FROM_BYTES = 512;

export function crc32(bytes: Uint8Array, start = 0, end: number = bytes.length): number {
  if (end - start >= NATIVE_FROM_BYTES) return nativeCrc32(bytes.subarray(start, end));
  let c = 0xffffffff;
  for (let i = start; i < end; i += 1) c = TABLE[(c ^ bytes[i]!) & 0xff]! ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}
