// External Redis: a server as an operator would run it, on a TCP port, with the settings that the promise needs unless a
// test asks for others. It keeps port and folder over kill and start, so that it comes back with its data.

import type { ChildProcess } from "node:child_process";
import { mkdirSync } from "node:fs";
import { Redis } from "ioredis";
import { findRedis } from "../../../src/redis-binary.mjs";
import { type Arena, freePort, isOver, tailOf, until } from "./arena.ts";

const SAFE: Readonly<Record<string, string>> = {
  appendonly: "yes",
  appendfsync: "always",
  save: "",
  "maxmemory-policy": "noeviction",
};

export class ExternalRedis {
  readonly port: number;
  readonly url: string;
  readonly #arena: Arena;
  readonly #settings: Readonly<Record<string, string>>;
  #child: ChildProcess | undefined;

  private constructor(arena: Arena, port: number, settings: Readonly<Record<string, string>>) {
    this.#arena = arena;
    this.port = port;
    this.url = `redis://127.0.0.1:${port}`;
    this.#settings = { ...SAFE, ...settings };
    mkdirSync(arena.path(`redis-${port}`));
  }

  /** Chooses a port and a folder; nothing runs yet. */
  static async create(arena: Arena, settings: Readonly<Record<string, string>> = {}): Promise<ExternalRedis> {
    return new ExternalRedis(arena, await freePort(), settings);
  }

  /** Starts the server and waits until it answers. */
  async start(): Promise<void> {
    const { binary } = findRedis();
    if (!binary) throw new Error("no Redis server on this machine; type: node scripts/ensure.mjs");
    const name = `redis-${this.port}`;
    const settings = { ...this.#settings, port: String(this.port), bind: "127.0.0.1", dir: this.#arena.path(name) };
    const args = Object.entries(settings).flatMap(([key, value]) => [`--${key}`, value]);
    this.#child = this.#arena.spawn(binary.path, args, { name, argv0: binary.argv0, env: binary.env });
    const explain = (): string => tailOf(this.#arena.path(`${name}.out`));
    await until(() => this.#answers(), { what: "the Redis server to answer", withinMs: 20_000, explain });
  }

  async kill(): Promise<void> {
    this.#child?.kill("SIGKILL");
    await until(() => !this.#child || isOver(this.#child), { what: "the end of Redis", withinMs: 10_000 });
  }

  /** SIGSTOP: connections stay open and nothing is answered. */
  stop(): void {
    this.#child?.kill("SIGSTOP");
  }

  resume(): void {
    this.#child?.kill("SIGCONT");
  }

  async #answers(): Promise<boolean> {
    const client = new Redis(this.port, "127.0.0.1", { lazyConnect: true, retryStrategy: () => null });
    client.on("error", () => undefined);
    try {
      await client.connect();
      return (await client.ping()) === "PONG";
    } finally {
      client.disconnect();
    }
  }
}
