// Effects: the outside world of the steps tests. Counts what it is asked to do, by the idempotency key of each request.

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { Arena } from "./arena.ts";

export class Effects {
  readonly url: string;
  /** Keys in the order of the requests, repeats included. */
  readonly requests: string[] = [];

  private constructor(port: number) {
    this.url = `http://127.0.0.1:${port}/`;
  }

  static async start(arena: Arena): Promise<Effects> {
    const server = createServer((request, response) => {
      effects.requests.push(String(request.headers["idempotency-key"]));
      request.resume();
      response.writeHead(200).end();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const effects = new Effects((server.address() as AddressInfo).port);
    arena.onCleanUp(() => {
      server.closeAllConnections();
      server.close();
    });
    return effects;
  }

  /** What was done: a repeat under the same key does nothing more. */
  get done(): string[] {
    return [...new Set(this.requests)];
  }
}
