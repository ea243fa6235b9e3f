// A real Redis server of a test's own: unix socket in a folder of its own, no port, killed and removed at the end. It never
// touches a server that it did not spawn.

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findRedis } from "../../src/redis-binary.mjs";

export interface RedisServerOptions {
  /** Default `always`; `off` switches the append-only file off. */
  readonly fsync?: "always" | "everysec" | "no" | "off";
  /** Further command-line arguments, e.g. `["--maxmemory", "10mb"]`. */
  readonly args?: readonly string[];
}

const START_MS_MAX = 10_000;
const POLL_MS = 10;

export class RedisServer {
  readonly dir: string = mkdtempSync(join(tmpdir(), "colloquy-redis-"));
  /** Of the unix socket. */
  readonly path: string = join(this.dir, "redis.sock");
  readonly #options: RedisServerOptions;
  #child: ChildProcess | null = null;

  private constructor(options: RedisServerOptions) {
    this.#options = options;
  }

  /** Resolves when the server answers PING. */
  static async start(options: RedisServerOptions = {}): Promise<RedisServer> {
    const server = new RedisServer(options);
    await server.start();
    return server;
  }

  get pid(): number {
    if (this.#child?.pid === undefined) throw new Error("the server does not run");
    return this.#child.pid;
  }

  /** Starts again on the same data, after `kill` or `stop`. */
  async start(): Promise<void> {
    const { binary } = findRedis();
    if (binary === null) throw new Error("no redis-server found; run `node scripts/ensure.mjs`");
    const { fsync = "always", args = [] } = this.#options;
    rmSync(this.path, { force: true });
    const persistence = fsync === "off" ? ["--appendonly", "no"] : ["--appendonly", "yes", "--appendfsync", fsync];
    this.#child = spawn(
      binary.path,
      ["--port", "0", "--unixsocket", this.path, "--dir", this.dir, "--save", "", ...persistence, ...args],
      { argv0: binary.argv0, env: { ...process.env, ...binary.env }, stdio: "ignore" },
    );
    process.once("exit", this.#killNow);
    await this.#answers();
  }

  /** kill -9; resolves when the process is gone. */
  kill(): Promise<void> {
    return this.#end("SIGKILL");
  }

  /** SIGTERM: Redis ends in order. */
  stop(): Promise<void> {
    return this.#end("SIGTERM");
  }

  /** SIGSTOP: connections stay, nobody answers. */
  pause(): void {
    process.kill(this.pid, "SIGSTOP");
  }

  resume(): void {
    process.kill(this.pid, "SIGCONT");
  }

  /** Kills the server and removes its folder. */
  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.dir, { recursive: true, force: true });
  }

  readonly #killNow = (): void => {
    this.#child?.kill("SIGKILL");
  };

  async #end(signal: "SIGKILL" | "SIGTERM"): Promise<void> {
    const child = this.#child;
    this.#child = null;
    process.removeListener("exit", this.#killNow);
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    await new Promise<void>((resolve) => {
      child.once("exit", () => resolve());
      child.kill(signal);
    });
  }

  async #answers(): Promise<void> {
    const giveUpAt = Date.now() + START_MS_MAX;
    while (!(existsSync(this.path) && (await ping(this.path)))) {
      if (this.#child?.exitCode != null) throw new Error(`redis-server ended with ${this.#child.exitCode}`);
      if (Date.now() > giveUpAt) throw new Error(`redis-server did not answer within ${START_MS_MAX} ms`);
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
}

/** Whether the server at the socket answers, and has loaded its data. */
function ping(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => socket.write("PING\r\n"));
    const settle = (answers: boolean): void => {
      socket.destroy();
      resolve(answers);
    };
    socket.once("data", (data) => settle(data.toString("latin1").startsWith("+PONG")));
    socket.once("error", () => settle(false));
    socket.once("close", () => settle(false));
  });
}
