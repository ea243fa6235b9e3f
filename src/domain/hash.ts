// Hashes by name. Each is for ever: stored keys and placements depend on them, so they are pinned by published vectors.

/** 64 bits as two unsigned 32-bit halves; bigint would cost more than the hash. */
export interface Hash64 {
  readonly lo: number;
  readonly hi: number;
}

const rotl = (x: number, bits: number): number => (x << bits) | (x >>> (32 - bits));

/** MurmurHash3 x86 32-bit, seed 0. Places conversations on shards. */
export function murmur3(bytes: Uint8Array): number {
  const end = bytes.length - (bytes.length % 4);
  let h = 0;
  for (let i = 0; i < end; i += 4) {
    const k = word(bytes, i);
    h = Math.imul(rotl(h ^ mixWord(k), 13), 5) + 0xe6546b64;
  }
  let tail = 0;
  for (let i = bytes.length - 1; i >= end; i -= 1) tail = (tail << 8) | bytes[i]!;
  if (bytes.length !== end) h ^= mixWord(tail);
  h ^= bytes.length;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

const mixWord = (k: number): number => Math.imul(rotl(Math.imul(k, 0xcc9e2d51), 15), 0x1b873593);

const word = (b: Uint8Array, i: number): number => b[i]! | (b[i + 1]! << 8) | (b[i + 2]! << 16) | (b[i + 3]! << 24);

/**
 * HalfSipHash-2-4 with a 64-bit result: the keyed hash of external ids, and the mixing step of a record's `chain`.
 * All rounds run through one loop body: two for each word, then four, then four more for the upper half.
 */
export function halfSipHash64(key: Hash64, bytes: Uint8Array, start = 0, end: number = bytes.length): Hash64 {
  let v0 = key.lo;
  let v1 = key.hi ^ 0xee;
  let v2 = 0x6c796765 ^ key.lo;
  let v3 = 0x74656462 ^ key.hi;
  const length = end - start;
  const wholeWords = length >>> 2;
  const lastWordAt = start + wholeWords * 4;
  let last = length << 24;
  for (let i = lastWordAt, shift = 0; i < end; i += 1, shift += 8) last |= bytes[i]! << shift;

  const absorbRounds = (wholeWords + 1) * 2;
  let m = 0;
  let lo = 0;
  for (let round = 0; round < absorbRounds + 8; round += 1) {
    if (round < absorbRounds && (round & 1) === 0) {
      const at = start + round * 2;
      m = at < lastWordAt ? word(bytes, at) : last;
      v3 ^= m;
    } else if (round === absorbRounds) {
      v2 ^= 0xee;
    } else if (round === absorbRounds + 4) {
      lo = v1 ^ v3;
      v1 ^= 0xdd;
    }
    v0 = (v0 + v1) | 0;
    v1 = rotl(v1, 5) ^ v0;
    v0 = rotl(v0, 16);
    v2 = (v2 + v3) | 0;
    v3 = rotl(v3, 8) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = rotl(v3, 7) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = rotl(v1, 13) ^ v2;
    v2 = rotl(v2, 16);
    if (round < absorbRounds && (round & 1) === 1) v0 ^= m;
  }
  return { lo: lo >>> 0, hi: (v1 ^ v3) >>> 0 };
}
