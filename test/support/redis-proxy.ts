// A proxy between a client and a Redis server that loses answers on purpose. What the client sends always arrives.

import { rmSync } from "node:fs";
import { connect, createServer, type Server, type Socket } from "node:net";

/** `cut` ends the connection as the answer comes; `swallow` keeps it and says nothing; each from the next answer on. */
export type ProxyMode = "pass" | "cut" | "swallow";

export class RedisProxy {
  mode: ProxyMode = "pass";
  /** How many connections were accepted so far. */
  accepted = 0;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly path: string;

  private constructor(path: string, upstreamPath: string) {
    this.path = path;
    this.#server = createServer((client) => this.#join(client, connect(upstreamPath)));
  }

  static async start(path: string, upstreamPath: string): Promise<RedisProxy> {
    const proxy = new RedisProxy(path, upstreamPath);
    await new Promise<void>((resolve) => proxy.#server.listen(path, resolve));
    return proxy;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => this.#server.close(resolve));
    rmSync(this.path, { force: true });
  }

  #join(client: Socket, upstream: Socket): void {
    this.accepted += 1;
    client.on("data", (data) => upstream.write(data));
    upstream.on("data", (data) => {
      if (this.mode === "pass") client.write(data);
      else if (this.mode === "cut") client.destroy();
    });
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      this.#sockets.add(socket);
      socket.on("error", () => undefined);
      socket.on("close", () => {
        this.#sockets.delete(socket);
        other.destroy();
      });
    }
  }
}
