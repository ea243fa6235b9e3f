// Lossy proxy: stands between a client and the runtime and can lose an answer: the request arrives whole, the runtime
// answers it, and the client's connection is cut instead.

import { connect, createServer, type Socket } from "node:net";
import type { Arena } from "./arena.ts";

export class LossyProxy {
  readonly url: string;
  #lose: ((head: string) => void) | undefined;

  private constructor(port: number) {
    this.url = `http://127.0.0.1:${port}`;
  }

  static async start(arena: Arena, targetPort: number): Promise<LossyProxy> {
    const sockets = new Set<Socket>();
    const joined = (client: Socket): void => {
      const target = connect(targetPort, "127.0.0.1");
      for (const [socket, other] of [
        [client, target],
        [target, client],
      ] as const) {
        sockets.add(socket);
        socket.on("error", () => undefined);
        socket.on("close", () => {
          sockets.delete(socket);
          other.destroy();
        });
      }
      client.on("data", (chunk) => target.write(chunk));
      target.on("data", (chunk) => proxy.#answer(client, chunk));
    };
    const server = createServer(joined);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const address = server.address();
    const proxy = new LossyProxy(typeof address === "object" && address ? address.port : 0);
    arena.onCleanUp(() => {
      for (const socket of sockets) socket.destroy();
      server.close();
    });
    return proxy;
  }

  /** Loses the next answer. @returns its first line, once it came and was lost */
  loseNextAnswer(): Promise<string> {
    return new Promise((resolve) => {
      this.#lose = resolve;
    });
  }

  #answer(client: Socket, chunk: Buffer): void {
    const lose = this.#lose;
    if (!lose) {
      client.write(chunk);
      return;
    }
    this.#lose = undefined;
    client.resetAndDestroy();
    lose(chunk.toString("latin1").split("\r\n", 1)[0] ?? "");
  }
}
