// Any program of steps, replies and replyNow, over any number of runs that throw, run out of time, or die with the process: each effect
// once, each reply once and in order (P4, G1 to G4, T5).

import { fc } from "@fast-check/vitest";
import { expect, test } from "vitest";
import type { Turn, TurnResult } from "../../actors/turn.ts";
import type { TurnContext } from "../../src/domain/bot.ts";
import type { Plain } from "../../src/domain/plain-data.ts";
import { JournalRig, openTurn, run } from "./support/turn-rig.ts";

type Op =
  | { readonly kind: "step"; readonly name: string; readonly ticks: number }
  | { readonly kind: "together"; readonly ticks: readonly number[] }
  | { readonly kind: "reply" }
  | { readonly kind: "replyNow" };

/** How a run ends before its end: by its own throw before an op, or from outside after so many ticks. */
type Ending = { readonly kind: "throws" | "expires" | "crashes"; readonly at: number };

const ticks = fc.nat(3);
const program = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("step" as const), name: fc.constantFrom("a", "b"), ticks }) },
    {
      weight: 2,
      arbitrary: fc.record({
        kind: fc.constant("together" as const),
        ticks: fc.array(ticks, { minLength: 2, maxLength: 3 }),
      }),
    },
    { weight: 3, arbitrary: fc.record({ kind: fc.constant("reply" as const) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant("replyNow" as const) }) },
  ),
  { minLength: 1, maxLength: 8 },
);
const endings = fc.array(
  fc.record({ kind: fc.constantFrom("throws" as const, "expires" as const, "crashes" as const), at: fc.nat(14) }),
  { maxLength: 5 },
);

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
const TICKS_MAX = 2_000;

class World {
  /** How often each effect happened, by name and occurrence. */
  readonly effects: Map<string, number> = new Map();
  /** How often one may happen again: the process died between it and its journal. */
  readonly excused: Map<string, number> = new Map();
  life = 0;
  /** Steps that a run was given without running them. */
  replayed = 0;

  /** One run of an effect; a process that died meanwhile does nothing more. */
  async effect(identity: string, ticks: number, life: number): Promise<string> {
    for (let i = 0; i < ticks; i += 1) await tick();
    if (life !== this.life) return new Promise(() => undefined);
    const count = (this.effects.get(identity) ?? 0) + 1;
    this.effects.set(identity, count);
    return `${identity} ${count}`;
  }
}

const handlerOf =
  (ops: readonly Op[], world: World, throwsAt: number) =>
  async (_state: Plain, _message: unknown, ctx: TurnContext): Promise<Plain> => {
    const { life } = world;
    const occurrences = new Map<string, number>();
    const results: string[] = [];
    const step = async (name: string, ticks: number): Promise<string> => {
      const occurrence = occurrences.get(name) ?? 0;
      occurrences.set(name, occurrence + 1);
      let ran = false;
      const result = await ctx.step(name, () => {
        ran = true;
        return world.effect(`${name}#${occurrence}`, ticks, life);
      });
      if (!ran) world.replayed += 1;
      return result;
    };
    for (const [i, op] of ops.entries()) {
      if (i === throwsAt) throw new Error("on purpose");
      if (op.kind === "step") results.push(await step(op.name, op.ticks));
      else if (op.kind === "together")
        results.push(...(await Promise.all(op.ticks.map((ticks, branch) => step(`branch ${i}.${branch}`, ticks)))));
      else if (op.kind === "reply") ctx.reply(`reply ${i}`);
      else await ctx.replyNow();
    }
    if (throwsAt >= ops.length) throw new Error("on purpose, at the end");
    return results;
  };

/** Runs the turn to its end, or to the process's; commits come and go as drawn. */
async function runOnce(
  rig: JournalRig,
  world: World,
  ops: readonly Op[],
  ending: Ending | null,
  commits: Iterator<boolean>,
): Promise<TurnResult | "crashed"> {
  const throwsAt = ending?.kind === "throws" ? ending.at : Number.NaN;
  const bounds = { repliesMax: 100, replyBytesMax: 100, turnReplyBytesMax: 10_000, stateBytesMax: 10_000 };
  const { turn, later } = run(handlerOf(ops, world, throwsAt), { journal: rig.journal, bounds });
  let result: TurnResult | undefined;
  void later.then((value) => {
    result = value;
  });
  for (let n = 0; result === undefined; n += 1) {
    if (n > TICKS_MAX) throw new Error("the turn does not end");
    if (ending !== null && n === ending.at) {
      if (ending.kind === "crashes") return "crashed";
      if (ending.kind === "expires") expire(turn);
    }
    if (rig.isDirty && commits.next().value) commit(rig);
    await tick();
  }
  return result;
}

const expire = (turn: Turn): void => turn.expire();

/** What is stored is whole at every moment: as many replies are out as it says (G4). */
function commit(rig: JournalRig): void {
  rig.commit();
  expect(rig.durable.replies).toHaveLength(rig.durable.repliesOut);
}

/** The process dies: what it did and had not stored may be done once more. */
function crash(rig: JournalRig, world: World): JournalRig {
  world.life += 1;
  const { steps, repliesOut, replies } = rig.durable;
  const journaled = new Set(steps.map(({ name, occurrence }) => `${name}#${occurrence}`));
  for (const [identity, count] of world.effects) if (!journaled.has(identity)) world.excused.set(identity, count);
  return new JournalRig({ open: openTurn({ steps, repliesOut }), replies, commits: "by hand" });
}

test("each effect once, each reply once and in order, whatever happens to the runs in between", async () => {
  const seen = { throws: 0, expires: 0, crashes: 0, replayed: 0, excused: 0, outEarly: 0 };
  let runs = 0;
  await fc.assert(
    fc.asyncProperty(program, endings, fc.infiniteStream(fc.boolean()), async (ops, bad, draws) => {
      const world = new World();
      const commits = draws[Symbol.iterator]();
      let rig = new JournalRig({ commits: "by hand" });
      const ended = new Set<string>();
      for (const ending of bad) {
        const result = await runOnce(rig, world, ops, ending, commits);
        if (result === "crashed") rig = crash(rig, world);
        else if (result.kind === "done") break; // it came to its end before
        ended.add(ending.kind);
      }
      const last = await runOnce(rig, world, ops, null, commits);
      if (last === "crashed" || last.kind === "failed") throw last === "crashed" ? new Error("crashed") : last.error;
      commit(rig);

      const replies = ops.flatMap((op, i) => (op.kind === "reply" ? [`reply ${i}`] : []));
      expect([...rig.durable.replies, ...last.replies].map(({ text }) => text)).toEqual(replies);
      for (const [identity, count] of world.effects) {
        expect(count, identity).toBeLessThanOrEqual(1 + (world.excused.get(identity) ?? 0));
      }
      const results = last.state as readonly string[];
      expect(new Set(results.map((result) => result.split(" ").slice(0, -1).join(" "))).size).toBe(results.length);
      for (const { name, occurrence, result } of rig.journal.steps) {
        expect(results).toContain(result);
        expect(String(result).startsWith(`${name}#${occurrence} `)).toBe(true);
      }
      expect(rig.journal.steps).toHaveLength(results.length);

      runs += 1;
      for (const kind of ["throws", "expires", "crashes"] as const) if (ended.has(kind)) seen[kind] += 1;
      if (world.replayed > 0) seen.replayed += 1;
      if (world.excused.size > 0) seen.excused += 1;
      if (rig.durable.replies.length > 0) seen.outEarly += 1;
    }),
    { numRuns: 1_500 },
  );
  for (const [what, count] of Object.entries(seen)) expect(count / runs, what).toBeGreaterThan(0.05);
}, 120_000);
