// Parts run: parts of a running node fail in the middle of their work, one after the other, while messages flow. The tree has to
// mend each by itself: nothing is lost, and at the end it has its shape again.

import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { embeddedSocketPath } from "../../../src/store/embedded-redis.ts";
import type { TreeNode } from "../../../supervisors/tree.ts";
import { type Arena, freePort, tailOf, until } from "./arena.ts";
import { HelperProcess } from "./helper-process.ts";
import { seededRandom } from "./random.ts";
import type { SabotagedConfig, SabotagedVerbs } from "./sabotaged-runtime.ts";
import { isNothing, StoreView } from "./store-view.ts";
import { allAnswered, expectPromiseKept, senderReaches, Traffic } from "./traffic.ts";

export interface PartsPlan {
  readonly seed: number;
  /** How often the runtime's own code throws at a place nobody chose. */
  readonly strikes: number;
  /** Places in the tree whose parts fail, each once. */
  readonly parts: readonly (readonly string[])[];
  readonly closesPort: boolean;
  readonly cutsConnections: boolean;
  readonly messagesEach: number;
}

export interface PartsReport {
  /** What was looked at when it threw. */
  readonly struck: readonly string[];
  readonly treeBefore: unknown;
  readonly treeAfter: unknown;
  /** What still kept the process alive after a stop, beside what it had before the start. */
  readonly leftAfterStop: readonly string[];
}

/** Two failures within the period of an intensity are too many on purpose: more than that apart, each is mended. */
const PERIOD_MS = 5_000;

const shapeOf = ({ id, state, children }: TreeNode): unknown => ({ id, state, children: children.map(shapeOf) });

/** How the part at this place last ended; undefined while the port, or the part, is away. */
async function lastExitAt(url: string, path: readonly string[]): Promise<string | undefined> {
  try {
    let node = (await (await fetch(`${url}/admin/tree`)).json()) as TreeNode | undefined;
    for (const id of path) node = node?.children.find((child) => child.id === id);
    return node?.state === "running" ? node.lastExit?.reason : undefined;
  } catch {
    return undefined;
  }
}

/** @throws Error if the promise was broken, the app crashed, or it got stuck */
export async function partsRun(arena: Arena, plan: PartsPlan): Promise<PartsReport> {
  const random = seededRandom(plan.seed, "parts");
  const explain = (): string => tailOf(arena.path("runtime.out"));
  const traffic = await Traffic.start(arena, plan.seed);
  const config: SabotagedConfig = {
    port: await freePort(),
    data: arena.dataFolder("data"),
    deliverTo: traffic.deliverTo,
  };
  const runtime = new HelperProcess<SabotagedVerbs>(arena, "sabotaged-runtime.mjs", "runtime", config);
  await runtime.ask("start", undefined);
  const url = `http://127.0.0.1:${config.port}`;
  const ready = () =>
    until(async () => ((await fetch(`${url}/readyz`).catch(() => null))?.ok ? true : undefined), {
      what: "the node to be ready",
      withinMs: 30_000,
      explain,
    });
  await ready();
  const treeBefore = shapeOf(await runtime.ask("tree", undefined));

  const redis = new Redis(embeddedSocketPath(config.data));
  redis.on("error", () => undefined);
  arena.onCleanUp(() => redis.disconnect());
  /** The tree must tell of it, to whom asks the port. */
  const failAndTell = async (path: readonly string[]): Promise<void> => {
    if (!(await runtime.ask("fail", path))) throw new Error(`nothing runs at ${path.join("/")}`);
    await until(async () => (await lastExitAt(url, path)) === "error" || undefined, {
      what: `the tree to tell of ${path.join("/")}`,
      withinMs: 30_000,
      explain,
    });
  };
  const failures: (() => Promise<unknown>)[] = Array.from(
    { length: plan.strikes },
    () => () => runtime.ask("arm", random.below(400)),
  );
  for (const path of plan.parts) failures.push(() => failAndTell(path));
  if (plan.closesPort) failures.push(() => runtime.ask("closePort", undefined));
  if (plan.cutsConnections) failures.push(() => redis.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"));
  for (const [i, fail] of random.shuffled(failures).entries()) {
    const messages = plan.messagesEach;
    const sender = await traffic.send(`m${i}-`, { urls: [url], conversations: 100, messages });
    const from = Math.floor(messages * (0.2 + 0.3 * random.next()));
    await senderReaches(sender, "its middle", ({ answered }) => answered > from, explain);
    const failedAtMs = performance.now();
    await fail();
    await senderReaches(sender, "the last answer", allAnswered, explain);
    await sleep(Math.max(0, PERIOD_MS + 100 - (performance.now() - failedAtMs)));
    const crash = await runtime.ask("crashed", undefined);
    if (crash !== null) throw new Error(`the app gave up: ${crash}\n${explain()}`);
  }
  await ready();
  const store = StoreView.ofDataFolder(arena, config.data);
  await until(async () => isNothing(await store.unfinished()), { what: "nothing unfinished", withinMs: 30_000 });
  expectPromiseKept(traffic.history());
  return {
    struck: await runtime.ask("struck", undefined),
    treeBefore,
    treeAfter: shapeOf(await runtime.ask("tree", undefined)),
    leftAfterStop: await runtime.ask("stop", undefined),
  };
}
