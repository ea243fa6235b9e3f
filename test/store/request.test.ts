import fc from "fast-check";
import { expect, test } from "vitest";
import { encodeRequest, type RequestArgument } from "../../src/store/request.ts";

const unit = fc.constantFrom("grapheme", "binary", "binary-ascii");
const text = unit.chain((kind) => fc.string({ unit: kind, maxLength: 40 }));
const bytes = fc.uint8Array({ maxLength: 80 });
const number = fc.oneof(fc.nat(300), fc.nat(Number.MAX_SAFE_INTEGER));
const packItem = fc.oneof(text, bytes, number, fc.constant<false>(false));
const argument: fc.Arbitrary<RequestArgument> = fc.oneof(
  { weight: 3, arbitrary: text },
  number,
  bytes,
  fc.record({ pack: fc.array(packItem, { maxLength: 20 }) }),
);

test("a request is RESP: every argument comes out as it went in, whatever stands beside it", () => {
  fc.assert(
    fc.property(fc.array(argument, { minLength: 1, maxLength: 30 }), (args) => {
      const decoded = decodeRequest(encodeRequest(args));
      expect(decoded).toHaveLength(args.length);
      for (const [i, arg] of args.entries()) expect(comparable(arg, decoded[i]!)).toBe(true);
    }),
    { numRuns: 2_000 },
  );
});

test("an argument of several megabytes", () => {
  const big = new Uint8Array(5_000_000).fill(13);
  const [name, value] = decodeRequest(encodeRequest(["set", big]));
  expect(name!.toString()).toBe("set");
  expect(Buffer.compare(value!, big)).toBe(0);
});

function comparable(arg: RequestArgument, found: Buffer): boolean {
  if (typeof arg === "object" && "pack" in arg) {
    const items = unpack(found);
    return arg.pack.length === items.length && arg.pack.every((item, i) => sameItem(item, items[i]));
  }
  return found.equals(typeof arg === "object" ? arg : Buffer.from(String(arg), "utf8"));
}

function sameItem(item: Uint8Array | string | number | false, found: unknown): boolean {
  if (typeof item === "number" || item === false) return item === found;
  return Buffer.isBuffer(found) && found.equals(typeof item === "string" ? Buffer.from(item, "utf8") : item);
}

/** As strict as Redis' parser: no leading zeros, CR LF where they belong, nothing left over. */
function decodeRequest(request: Buffer): Buffer[] {
  let at = 0;
  const count = (type: string): number => {
    const end = request.indexOf("\r\n", at);
    const [, digits] = new RegExp(`^\\${type}(0|[1-9]\\d*)$`).exec(request.toString("latin1", at, end))!;
    at = end + 2;
    return Number(digits);
  };
  const args = Array.from({ length: count("*") }, () => {
    const length = count("$");
    const arg = request.subarray(at, at + length);
    at += length;
    expect(request.toString("latin1", at, at + 2)).toBe("\r\n");
    at += 2;
    return arg;
  });
  expect(at).toBe(request.length);
  return args;
}

/** The part of MessagePack that a request uses. */
function unpack(packed: Buffer): unknown[] {
  expect(packed[0]).toBe(0xdd);
  let at = 5;
  const items = Array.from({ length: packed.readUInt32BE(1) }, (): unknown => {
    const type = packed[at]!;
    at += 1;
    if (type <= 0x7f) return type;
    if (type === 0xc2) return false;
    if (type === 0xcb) {
      at += 8;
      return packed.readDoubleBE(at - 8);
    }
    expect(type).toBe(0xdb);
    const length = packed.readUInt32BE(at);
    at += 4 + length;
    return packed.subarray(at - length, at);
  });
  expect(at).toBe(packed.length);
  return items;
}
