// Random trees and what happens to them: the supervisors of supervisors/ do what the model does, step by step.

import { isDeepStrictEqual } from "node:util";
import fc from "fast-check";
import { expect, test } from "vitest";
import { OtpModel } from "./model/otp-model.ts";
import { CodeSubject } from "./support/code-subject.ts";
import type { Action, ExitWord, Outcome, SupNode, TreeNode, WorkerNode } from "./support/trace.ts";

const RUNS = 2_000;
const DEPTH_MAX = 4;
const PERIOD_MS = 60_000;

interface Choice {
  readonly kind: (typeof KINDS)[number];
  readonly target: number;
  readonly extra: number;
  readonly node: Shape;
}

/** A node without an id. */
interface Shape {
  readonly strategy: SupNode["strategy"] | null;
  readonly intensity: number;
  readonly autoShutdown: SupNode["autoShutdown"];
  readonly restart: TreeNode["restart"];
  readonly stop: (typeof STOPS)[number];
  readonly isSignificant: boolean;
  readonly children: readonly Shape[];
}

const KINDS = [
  "exit",
  "exit",
  "crash",
  "crash",
  "killed",
  "kill-supervisor",
  "fail-start",
  "ignore-start",
  "hang-start",
  "start-worker",
  "start-supervisor",
  "start-known",
  "terminate",
  "restart",
  "delete",
  "list",
  "wait",
] as const;
/** What else must be common: what a step led to, and what trees are made of. */
const ALSO = [
  ...["restarted", "gave-up", "stop-hung", `depth ${DEPTH_MAX}`],
  ...["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"],
  ...["permanent", "transient", "temporary", "significant"],
  ...["never", "any_significant", "all_significant"],
];
const STOPS = ["orderly", "orderly", "forever", "brutal", "hangs"] as const;

const leaf = {
  intensity: fc.constantFrom(0, 1, 2, 3, 5),
  autoShutdown: fc.constantFrom("never", "never", "any_significant", "all_significant"),
  restart: fc.constantFrom("permanent", "permanent", "transient", "temporary"),
  stop: fc.constantFrom(...STOPS),
  isSignificant: fc.boolean(),
} as const;
const strategies = fc.constantFrom("one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one");
const worker = fc.record({ ...leaf, strategy: fc.constant(null), children: fc.constant([]) });

function supervisorOf(depth: number): fc.Arbitrary<Shape> {
  const child: fc.Arbitrary<Shape> =
    depth < DEPTH_MAX
      ? fc.oneof({ weight: 3, arbitrary: worker }, { weight: 2, arbitrary: supervisorOf(depth + 1) })
      : worker;
  const children = fc.array(child, { minLength: depth === 1 ? 2 : 0, maxLength: depth === 1 ? 4 : 3 });
  return fc.record({ ...leaf, strategy: strategies, children }) as fc.Arbitrary<Shape>;
}

const choices = fc.record({
  kind: fc.constantFrom(...KINDS),
  target: fc.nat(99),
  extra: fc.nat(99),
  node: supervisorOf(DEPTH_MAX - 1),
}) as fc.Arbitrary<Choice>;
const steps = fc.array(fc.record({ on: fc.nat(99), choices: fc.array(choices, { minLength: 1, maxLength: 4 }) }), {
  minLength: 3,
  maxLength: 9,
});

/** Gives each node an id and leaves out what a supervisor may not have. */
class Namer {
  #last = 0;

  sup(shape: Shape, autoShutdown: SupNode["autoShutdown"]): SupNode {
    this.#last += 1;
    const id = `s${this.#last}`;
    const isSimple = shape.strategy === "simple_one_for_one";
    const template = shape.children.find(({ strategy }) => strategy === null) ?? { ...shape, strategy: null };
    const children = isSimple
      ? [{ ...this.worker(template, shape.autoShutdown), stubborn: false, id: "template" }]
      : shape.children.map((child) => this.node(child, shape.autoShutdown));
    const { strategy, intensity } = shape;
    const traits = { ...traitsOf(shape, autoShutdown), shutdown: "infinity" as const, stubborn: false };
    return {
      kind: "supervisor",
      id,
      strategy: strategy!,
      intensity,
      autoShutdown: shape.autoShutdown,
      ...traits,
      children,
    };
  }

  worker(shape: Shape, autoShutdown: SupNode["autoShutdown"]): WorkerNode {
    this.#last += 1;
    return { kind: "worker", id: `w${this.#last}`, ...traitsOf(shape, autoShutdown) };
  }

  node(shape: Shape, autoShutdown: SupNode["autoShutdown"]): TreeNode {
    return shape.strategy === null ? this.worker(shape, autoShutdown) : this.sup(shape, autoShutdown);
  }
}

function traitsOf({ restart, stop, isSignificant }: Shape, autoShutdown: SupNode["autoShutdown"]) {
  const shutdown = stop === "brutal" ? "brutal_kill" : stop === "forever" ? "infinity" : stop === "hangs" ? 10 : 1_000;
  const significant = isSignificant && restart !== "permanent" && autoShutdown !== "never";
  return { restart, shutdown, significant, stubborn: stop === "hangs" } as const;
}

const EXITS: readonly ExitWord[] = ["normal", "shutdown", "shutdown_term"];

/** What a choice means for this supervisor now; null if nothing. */
function actionOf(choice: Choice, on: ReturnType<OtpModel["alive"]>[number], namer: Namer): Action | null {
  const { sup, known, running } = on;
  const isSimple = sup.strategy === "simple_one_for_one";
  const from = <T>(nodes: readonly T[]): T | undefined => nodes[choice.target % Math.max(1, nodes.length)];
  const workers = running.filter(({ kind }) => kind === "worker");
  const failing = (how: "error" | "ignore" | "hang"): Action | null => {
    const node = from(known.filter(({ kind }) => kind === "worker"));
    if (node === undefined || (isSimple && how !== "error")) return null;
    return { kind: "fail_next", id: node.id, times: 1 + (choice.extra % 3), how };
  };
  const exit = (node: TreeNode | undefined, reason: ExitWord): Action | null =>
    node === undefined ? null : { kind: "exit", id: node.id, reason };
  switch (choice.kind) {
    case "exit":
      return exit(from(workers), EXITS[choice.extra % 3]!);
    case "crash":
      return exit(from(workers), "error");
    case "killed":
      return exit(from(workers), "kill");
    case "kill-supervisor":
      return exit(from(running.filter(({ kind }) => kind === "supervisor")), "kill");
    case "fail-start":
      return failing("error");
    case "ignore-start":
      return failing("ignore");
    case "hang-start":
      return failing("hang");
    case "start-worker":
      if (isSimple) return { kind: "start", id: `${sup.id}.d${namer.worker(choice.node, "never").id}` };
      return { kind: "start_new", node: namer.worker(choice.node, sup.autoShutdown) };
    case "start-supervisor":
      return isSimple ? null : { kind: "start_new", node: namer.sup(choice.node, sup.autoShutdown) };
    case "start-known": {
      const node = from(known);
      return isSimple || node === undefined ? null : { kind: "start_new", node };
    }
    case "terminate": {
      const node = from(isSimple ? running : known);
      return node === undefined ? null : { kind: "terminate", id: node.id };
    }
    case "restart":
    case "delete":
      return { kind: choice.kind, id: from(known)?.id ?? "nobody" };
    case "list":
      return { kind: choice.extra % 2 === 0 ? "which" : "count" };
    case "wait":
      return { kind: "wait", ms: PERIOD_MS * 2 };
  }
}

test(`in ${RUNS} random runs, and each kind of action is in at least 5 % of them`, async () => {
  const seen = new Map<string, number>();
  const property = fc.asyncProperty(supervisorOf(1), steps, async (shape, plan) => {
    const kinds = new Set<string>();
    const model = new OtpModel();
    const code = new CodeSubject();
    const namer = new Namer();
    const tree = namer.sup({ ...shape, restart: "permanent", isSignificant: false }, "never");
    for (const word of wordsOf(tree, 1)) kinds.add(word);
    compare(await model.start(tree, PERIOD_MS, []), await code.start(tree, PERIOD_MS, []), "start", tree);
    for (const [i, { on, choices: chosen }] of plan.entries()) {
      const alive = model.alive();
      if (alive.length === 0) break;
      const place = alive[on % alive.length]!;
      const touched = new Set<string>();
      const actions: Action[] = [];
      for (const choice of chosen) {
        const action = actionOf(choice, place, namer);
        if (action === null) continue;
        if (action.kind === "wait" && actions.length > 0) continue; // time passes between steps, not within one
        if (place.sup.strategy === "simple_one_for_one" && "id" in action && action.kind !== "fail_next") {
          if (touched.has(action.id)) continue; // Erlang names these by pid: one that ended cannot be named again
          touched.add(action.id);
        }
        kinds.add(choice.kind);
        actions.push(action);
      }
      const expected = await model.step(place.sup.id, actions);
      compare(expected, await code.step(place.sup.id, actions), `step ${i}`, { on: place.sup, actions });
      for (const kind of kindsOf(expected, tree)) kinds.add(kind);
    }
    compare(await model.end(), await code.end(), "end", tree);
    expect(await timersLeft(code)).toBe(false);
    for (const kind of kinds) seen.set(kind, (seen.get(kind) ?? 0) + 1);
  });
  await fc.assert(property, { numRuns: RUNS });
  for (const kind of [...new Set<string>(KINDS), ...ALSO])
    expect(seen.get(kind) ?? 0, `runs with ${kind}`).toBeGreaterThanOrEqual(RUNS * 0.05);
});

function compare(expected: Outcome, got: Outcome, where: string, what: unknown): void {
  if (isDeepStrictEqual(expected, got)) return;
  throw new Error(`${where}: ${JSON.stringify(what)}\nmodel ${JSON.stringify(expected)}\ncode  ${JSON.stringify(got)}`);
}

/** What else happened in a step. */
function kindsOf({ events, shape }: Outcome, tree: SupNode): string[] {
  const kinds: string[] = [];
  if (events.some((event) => event.startsWith("+") && events.includes(`-${event.slice(1)}`))) kinds.push("restarted");
  if (events.some((event) => event.startsWith("-s")) || shape === "over") kinds.push("gave-up");
  const stubborn = new Set(stubbornIds(tree));
  if (events.some((event) => event.startsWith("-") && stubborn.has(event.slice(1)))) kinds.push("stop-hung");
  return kinds;
}

function wordsOf(node: TreeNode, depth: number): string[] {
  const own = [node.restart, ...(node.significant ? ["significant"] : [])];
  if (node.kind === "worker") return own;
  const below = node.children.flatMap((child) => wordsOf(child, depth + 1));
  return [...own, node.strategy, node.autoShutdown, `depth ${depth}`, ...below];
}

function stubbornIds(node: TreeNode): string[] {
  return node.kind === "worker" ? (node.stubborn ? [node.id] : []) : node.children.flatMap(stubbornIds);
}

/** True if time could still bring something. */
async function timersLeft({ environment }: CodeSubject): Promise<boolean> {
  const before = environment.nowMs();
  await environment.until(() => false, 3_600_000, "nothing left").catch(() => undefined);
  return environment.nowMs() !== before;
}
