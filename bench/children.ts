// Bench of families: what a million supervised, idle actors cost, and whether they cost the others anything. bench/README.md
// says what is measured and what is not.
//
// Two processes hold the same 1,000 recipients, one with nobody else and one among the idle siblings. They are measured in
// turn, so that both see the machine as it is.

import { type ChildProcess, fork } from "node:child_process";
import { performance } from "node:perf_hooks";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { type ActorFamily, ActorSystem } from "../actors/actor-system.ts";
import { systemEnvironment } from "../src/environment.ts";
import { silentLog } from "../src/log.ts";
import { type ActorChild, startActor } from "../supervisors/actor-child.ts";
import { Family } from "../supervisors/family.ts";

const RECIPIENTS = 1_000;
const WAVES = 1_500;
const HEAP_MB = 6_144;
const STARTS_AT_ONCE = 10_000;

interface Started {
  readonly startsPerSecond: number;
  /** Growth of the heap after a full collection, and of the resident set, divided by the children. */
  readonly heapBytesEach: number;
  readonly rssBytesEach: number;
}

type Request =
  | { readonly kind: "start"; readonly children: number }
  | { readonly kind: "recipients" | "spread" | "everybody" | "stop" };

/** What runs in each of the two processes. */
class Crowd {
  readonly #system = new ActorSystem({
    after: systemEnvironment.after,
    onCrash: (actor, error) => {
      throw new Error(`${actor} crashed`, { cause: error });
    },
  });
  readonly #family: Family<null>;
  #received = 0;
  #children = 0;

  constructor() {
    const actors: ActorFamily = this.#system.family("child");
    const receive = (): void => {
      this.#received += 1;
    };
    this.#family = new Family<null>(
      {
        id: "children",
        intensity: 5,
        periodMs: 30_000,
        intensityOf: "child",
        storm: { restartsMax: 1_000, windowMs: 1_000 },
        child: { start: (link) => startActor(actors, link, { receive }, { mailboxMax: 64 }) },
      },
      systemEnvironment,
      silentLog,
    );
  }

  get size(): number {
    return this.#family.size;
  }

  /** The recipients first, in the same way whether or not others follow; what is measured of the start is the others. */
  async start(children: number): Promise<Started> {
    await this.#startUpTo(RECIPIENTS);
    const heapBefore = settledHeap();
    const rssBefore = process.memoryUsage.rss();
    const startedAtMs = performance.now();
    await this.#startUpTo(children);
    const tookMs = performance.now() - startedAtMs;
    const others = Math.max(1, children - RECIPIENTS);
    return {
      startsPerSecond: Math.round((others / tookMs) * 1_000),
      heapBytesEach: Math.round((settledHeap() - heapBefore) / others),
      rssBytesEach: Math.round((process.memoryUsage.rss() - rssBefore) / others),
    };
  }

  async #startUpTo(children: number): Promise<void> {
    while (this.#children < children) {
      const end = Math.min(children, this.#children + STARTS_AT_ONCE);
      const answers: Promise<{ readonly ok: boolean }>[] = [];
      for (; this.#children < end; this.#children += 1)
        answers.push(this.#family.startChild(`c${this.#children}`, null));
      if (!(await Promise.all(answers)).every(({ ok }) => ok)) throw new Error("a child did not start");
    }
  }

  /**
   * Messages per second to 1,000 recipients, one each and wave, each wave received before the next.
   * @param step 1: those that started first, the same in both processes; more: spread over all, so that each is far from the next
   */
  async toRecipients(step: number): Promise<number> {
    const recipients = Array.from({ length: RECIPIENTS }, (_, i) => this.#child(Math.floor(i * step)));
    const startedAtMs = performance.now();
    for (let wave = 0; wave < WAVES; wave += 1) await this.#wave(recipients);
    return Math.round((RECIPIENTS * WAVES * 1_000) / (performance.now() - startedAtMs));
  }

  /** Messages per second when everybody gets one. */
  async toEverybody(): Promise<number> {
    const startedAtMs = performance.now();
    for (let next = 0; next < this.#children; next += STARTS_AT_ONCE) {
      const count = Math.min(STARTS_AT_ONCE, this.#children - next);
      await this.#wave(Array.from({ length: count }, (_, i) => this.#child(next + i)));
    }
    return Math.round((this.#children * 1_000) / (performance.now() - startedAtMs));
  }

  async #wave(children: readonly ActorChild<number>[]): Promise<void> {
    const until = this.#received + children.length;
    for (const { ref } of children) if (!ref.tell(1)) throw new Error(`${ref.name} took no message`);
    while (this.#received < until) await new Promise((resolve) => setImmediate(resolve));
    if (this.#received !== until) throw new Error("a message was received twice");
  }

  #child(index: number): ActorChild<number> {
    const child = this.#family.child(`c${index}`);
    if (child === undefined) throw new Error(`child c${index} is not there`);
    return child as ActorChild<number>;
  }
}

let collect: (() => void) | undefined;

function settledHeap(): number {
  if (collect === undefined) {
    setFlagsFromString("--expose-gc");
    collect = runInNewContext("gc") as () => void;
  }
  for (let i = 0; i < 3; i += 1) collect();
  return process.memoryUsage().heapUsed;
}

function serve(): void {
  const crowd = new Crowd();
  const answer = async (request: Request): Promise<unknown> => {
    switch (request.kind) {
      case "start":
        return crowd.start(request.children);
      case "recipients":
        return crowd.toRecipients(1);
      case "spread":
        return crowd.toRecipients(crowd.size / RECIPIENTS);
      case "everybody":
        return crowd.toEverybody();
      case "stop":
        return process.exit(0);
    }
  };
  process.on("message", (request: Request) => {
    answer(request).then(
      (value) => process.send!({ value }),
      (error: unknown) => process.send!({ error: String(error) }),
    );
  });
}

class Peer {
  readonly #process: ChildProcess;

  constructor() {
    this.#process = fork(fileURLToPath(import.meta.url), ["--serve"], {
      execArgv: [`--max-old-space-size=${HEAP_MB}`, "--max-semi-space-size=64"],
    });
  }

  ask<Answer>(request: Request): Promise<Answer> {
    return new Promise((resolve, reject) => {
      const ended = (code: number | null): void => reject(new Error(`a process of the benchmark ended with ${code}`));
      this.#process.once("exit", ended);
      this.#process.once("message", (answer: { value?: Answer; error?: string }) => {
        this.#process.off("exit", ended);
        if (answer.error !== undefined) reject(new Error(answer.error));
        else resolve(answer.value as Answer);
      });
      this.#process.send(request);
    });
  }

  stop(): void {
    this.#process.send({ kind: "stop" } satisfies Request);
  }
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)]!;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      children: { type: "string", default: "1000000" },
      pairs: { type: "string", default: "5" },
      json: { type: "boolean", default: false },
    },
  });
  const children = wholeNumber("children", values.children, RECIPIENTS);
  const pairs = wholeNumber("pairs", values.pairs, 1);
  const [alone, among] = [new Peer(), new Peer()];
  await alone.ask({ kind: "start", children: RECIPIENTS });
  const started = await among.ask<Started>({ kind: "start", children });
  console.error(`${children} children: ${JSON.stringify(started)}`);
  const rates = { alone: [] as number[], among: [] as number[] };
  for (const peer of [alone, among]) await peer.ask({ kind: "recipients" }); // warms up, and is not counted
  for (let pair = 0; pair < pairs; pair += 1) {
    rates.alone.push(await alone.ask({ kind: "recipients" }));
    rates.among.push(await among.ask({ kind: "recipients" }));
    console.error(`pair ${pair + 1}: alone ${rates.alone.at(-1)}/s, among ${rates.among.at(-1)}/s`);
  }
  const result = {
    children,
    ...started,
    recipients: RECIPIENTS,
    aloneMessagesPerSecond: median(rates.alone),
    amongMessagesPerSecond: median(rates.among),
    slowdown: Number((median(rates.alone) / median(rates.among)).toFixed(2)),
    spreadMessagesPerSecond: await among.ask<number>({ kind: "spread" }),
    everybodyMessagesPerSecond: await among.ask<number>({ kind: "everybody" }),
    runs: rates,
  };
  alone.stop();
  among.stop();
  console.log(values.json ? JSON.stringify(result) : result);
}

function wholeNumber(flag: string, text: string, min: number): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= min) return value;
  console.error(`--${flag} must be a whole number from ${min}, not ${text}`);
  return process.exit(2);
}

if (process.argv.includes("--serve")) serve();
else await main();
