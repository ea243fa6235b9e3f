// Plain data: what a bot may keep as state or send as data is exactly what JSON can carry.
//
// Invariants
//   D1. What passed `freezePlain` reads back equal from JSON: no undefined member, function, symbol, bigint, NaN, Date,
//       class instance, cycle or getter is in it.
//   D2. It can no longer change (R4): what the committer encodes later is what the turn returned (attack B4).

export type Plain = null | boolean | number | string | readonly Plain[] | { readonly [key: string]: Plain };

/** Frozen by this module, with its size. What the bot froze itself may still hold what is not frozen, so it does not count. */
const frozenHere = new WeakMap<object, number>();

/** Smaller ones are walked again: that costs less than to remember them does. */
const REMEMBERED_SIZE_MIN = 256;

/** Nesting beyond this is refused: encoders recurse. */
export const PLAIN_DEPTH_MAX = 64;

/**
 * Checks that `value` is plain data and freezes it, all the way down, in one walk that stops at what it remembers.
 * @param what names the value in the message of the error, e.g. `state`
 * @throws PlainDataError naming the path of the first part that is not plain
 */
export function freezePlain(value: unknown, what: string): Plain {
  freezeAndMeasure(value, what);
  return value as Plain;
}

/**
 * `freezePlain` that answers the size: the length of the JSON in UTF-16 units with escapes not counted, which is between a
 * sixth and all of its real length.
 */
export function freezeAndMeasure(value: unknown, what: string): number {
  try {
    return walk(value, null, 0);
  } catch (error) {
    if (error instanceof PlainDataError) walk(value, what, 0); // again, to name the path: only a failure pays for it
    throw error;
  }
}

export class PlainDataError extends TypeError {
  override readonly name = "PlainDataError";
  /** Without the path, whose keys may be a user's words. */
  readonly reason: string;

  constructor(path: string | null, reason: string) {
    super(`${path} ${reason}`);
    this.reason = reason;
  }
}

const NUMBER_SIZE = 8;

/** @param path null while nothing is wrong */
function walk(value: unknown, path: string | null, depth: number): number {
  switch (typeof value) {
    case "string":
      return value.length + 2;
    case "boolean":
      return 5;
    case "number":
      if (!Number.isFinite(value)) throw new PlainDataError(path, `is ${value}; JSON has no such number`);
      return NUMBER_SIZE;
    case "object":
      return value === null ? 4 : (frozenHere.get(value) ?? walkObject(value, path, depth));
    default:
      throw new PlainDataError(path, `is ${article(typeof value)}; only plain JSON data can be kept`);
  }
}

function walkObject(value: object, path: string | null, depth: number): number {
  if (depth >= PLAIN_DEPTH_MAX) {
    throw new PlainDataError(path, `is nested deeper than ${PLAIN_DEPTH_MAX} levels, or a cycle`);
  }
  let size = 2;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i += 1) size += walk(value[i], path && `${path}[${i}]`, depth + 1) + 1;
  } else {
    assertPlainObject(value, path);
    for (const key of Object.keys(value)) size += key.length + 4 + walkMember(value, key, path, depth);
  }
  Object.freeze(value);
  if (size >= REMEMBERED_SIZE_MIN) frozenHere.set(value, size);
  return size;
}

function assertPlainObject(value: object, path: string | null): void {
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) {
    const name = prototype.constructor?.name || "object with a prototype";
    throw new PlainDataError(path, `is ${article(name)}; only plain JSON data can be kept`);
  }
  if (Object.getOwnPropertySymbols(value).length > 0) throw new PlainDataError(path, "has a symbol as key");
}

function walkMember(value: object, key: string, path: string | null, depth: number): number {
  const descriptor = Object.getOwnPropertyDescriptor(value, key)!;
  const memberPath = path && `${path}.${key}`;
  if (!("value" in descriptor)) throw new PlainDataError(memberPath, "is a getter; only plain JSON data can be kept");
  return walk(descriptor.value, memberPath, depth + 1);
}

const article = (name: string): string => (/^[aeiou]/i.test(name) ? `an ${name}` : `a ${name}`);
