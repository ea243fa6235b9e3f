import { describe, expect, test } from "vitest";
import { halfSipHash64, murmur3 } from "../../src/domain/hash.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

describe("MurmurHash3 x86 32-bit, seed 0", () => {
  test.each([
    ["", 0],
    ["a", 0x3c2569b2],
    ["Hello, world!", 0xc0363e43],
    ["The quick brown fox jumps over the lazy dog", 0x2e4ff723],
  ])("of %j is the published value", (text, expected) => {
    expect(murmur3(bytes(text))).toBe(expected);
  });
});

describe("HalfSipHash-2-4 with 64 bits", () => {
  /** Key 00..07, input 00, 01, 02, ... of growing length; from the reference implementation's vectors. */
  const vectors = [
    "218d1f59b9b83cc8",
    "be552412f8387315",
    "064f39ef7c50eb57",
    "ce0f1a45f7060679",
    "d5e78a175be52ea1",
    "cb9d7c3f2f3db580",
    "ce3e91358aa2bc25",
  ];

  test.each(vectors.map((expected, length) => ({ length, expected })))(
    "of $length bytes is the published value",
    ({ length, expected }) => {
      const input = Uint8Array.from({ length }, (_, i) => i);
      const { lo, hi } = halfSipHash64({ lo: 0x03020100, hi: 0x07060504 }, input);
      const out = Buffer.alloc(8);
      out.writeUInt32LE(lo, 0);
      out.writeUInt32LE(hi, 4);
      expect(out.toString("hex")).toBe(expected);
    },
  );

  test("of a part of a buffer equals that of a copy of the part", () => {
    const key = { lo: 1, hi: 2 };
    const whole = bytes("xxconversation-17yy");
    expect(halfSipHash64(key, whole, 2, whole.length - 2)).toEqual(halfSipHash64(key, bytes("conversation-17")));
  });
});
