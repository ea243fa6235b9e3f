// Attribution process: rejections that nobody awaits, in a process of their own. Argument: what to do.

import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { attributeRejections, insideTurn, outsideTurns, type RejectionOwner } from "../../src/turn-attribution.ts";

const print = (line: string): void => void process.stdout.write(`${line}\n`);
const textOf = (reason: unknown): string => (reason instanceof Error ? reason.message : String(reason));

const owner = (name: string): RejectionOwner => ({
  rejected: (reason) => print(`told ${name}: ${textOf(reason)}`),
});

async function* throwing(text: string): AsyncGenerator<number> {
  yield await sleep(1, 1);
  throw new Error(text);
}

/** Ways to leave a promise behind. */
const SHAPES: Readonly<Record<string, (text: string) => unknown>> = {
  "at once": (text) => void Promise.reject(new Error(text)),
  "of nothing": () => void Promise.reject(undefined),
  "by throwing": async (text) => {
    throw new Error(text);
  },
  "behind awaits": async (text) => {
    await null;
    await sleep(2);
    await Promise.all([sleep(1), null]);
    throw new Error(text);
  },
  "behind then": (text) =>
    sleep(1)
      .then(() => 1)
      .finally(() => undefined)
      .then(() => {
        throw new Error(text);
      }),
  "by a child of a child": async (text) => {
    await sleep(1);
    void (async () => {
      await sleep(1);
      void Promise.resolve().then(() => Promise.reject(new Error(text)));
    })();
  },
  "by one of many": (text) => Promise.all([sleep(1), Promise.reject(new Error(text))]),
  "by an iterator": (text) =>
    (async () => {
      for await (const value of throwing(text)) void value;
    })(),
  "by Node": () => readFile("/none/such"),
  "by fetch": () => fetch("http://127.0.0.1:9/"),
};

const modes: Readonly<Record<string, () => unknown>> = {
  /** All shapes, of two turns at a time. */
  shapes: () => {
    attributeRejections();
    for (const [name, shape] of Object.entries(SHAPES)) {
      for (const turn of ["one", "two"]) insideTurn(owner(`${turn} ${name}`), () => shape(`${turn} ${name}`));
    }
  },
  bare: () => Promise.reject(new Error("boom")),
  outside: () => {
    attributeRejections();
    insideTurn(owner("a turn"), () => undefined);
    void Promise.reject(new Error("boom"));
  },
  "bare-nothing": () => Promise.reject(undefined),
  "outside-nothing": () => {
    attributeRejections();
    void Promise.reject(undefined);
  },
  runtime: () => {
    attributeRejections();
    insideTurn(owner("a turn"), () => outsideTurns(() => void Promise.reject(new Error("boom"))));
  },
  /** The program has a listener of its own. */
  listener: () => {
    attributeRejections();
    process.on("unhandledRejection", (reason) => print(`program ${textOf(reason)}`));
    void Promise.reject(new Error("boom"));
  },
  /** The program keeps the process alive after what nobody caught. */
  kept: async () => {
    attributeRejections();
    process.on("uncaughtException", (error, origin) => print(`${origin} ${error.message}`));
    void Promise.reject(new Error("first"));
    await sleep(20);
    insideTurn(owner("a turn"), () => void Promise.reject(new Error("second")));
    await sleep(20);
    void Promise.reject(new Error("third"));
  },
  /** Two apps, stopped one after the other. */
  stopped: async () => {
    const before = process.listenerCount("unhandledRejection");
    const stops = [attributeRejections(), attributeRejections()];
    const marks = () => Object.getOwnPropertySymbols(insideTurn(owner("a turn"), () => Promise.resolve())).length;
    print(`both ${marks()}`);
    stops[0]!();
    stops[0]!();
    print(`one ${marks()} ${process.listenerCount("unhandledRejection") - before}`);
    stops[1]!();
    print(`none ${marks()} ${process.listenerCount("unhandledRejection") - before}`);
    attributeRejections();
    insideTurn(owner("again"), () => void Promise.reject(new Error("boom")));
  },
};

void modes[process.argv[2]!]!();
