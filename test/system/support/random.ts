// Random: every choice of a system test comes from one seed, so that a failing run can be told by a number.
//
// The processes of a run draw from streams of their own: what one of them draws does not shift what another gets. The
// interleaving of the processes is the machine's and is not repeated by the seed.

export interface Random {
  /** Uniform in [0, 1). */
  next(): number;
  /** A whole number in [0, limit). */
  below(limit: number): number;
  chance(probability: number): boolean;
  pick<Item>(items: readonly Item[]): Item;
  /** A copy in another order. */
  shuffled<Item>(items: readonly Item[]): Item[];
}

/** Mulberry32 over `seed` and the name of a stream. */
export function seededRandom(seed: number, stream: string): Random {
  let state = seed >>> 0;
  for (const char of stream) state = Math.imul(state ^ char.charCodeAt(0), 0x9e3779b1) >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000;
  };
  const below = (limit: number): number => Math.floor(next() * limit);
  return {
    next,
    below,
    chance: (probability) => next() < probability,
    pick: (items) => items[below(items.length)]!,
    shuffled(items) {
      const copy = [...items];
      for (let i = copy.length - 1; i > 0; i -= 1) {
        const j = below(i + 1);
        [copy[i], copy[j]] = [copy[j]!, copy[i]!];
      }
      return copy;
    },
  };
}

/** COLLOQUY_SEED, else a new one. */
export function seedOfThisRun(): number {
  const given = process.env.COLLOQUY_SEED;
  if (given === undefined || given === "") return Math.floor(Math.random() * 0x7fff_ffff);
  const seed = Number(given);
  if (!Number.isSafeInteger(seed) || seed < 0) throw new RangeError(`COLLOQUY_SEED is ${given}, not a whole number`);
  return seed;
}
