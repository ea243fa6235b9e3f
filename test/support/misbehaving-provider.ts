// Misbehaving provider: the other end of `send`, as a socket that does what a test tells it, decent or not.

import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";

export interface ReceivedRequest {
  readonly head: string;
  readonly body: string;
  readonly socket: Socket;
}

export type Behaviour = (request: ReceivedRequest) => void;

export interface Provider {
  readonly url: string;
  readonly requests: ReceivedRequest[];
  readonly connections: () => number;
  behave(behaviour: Behaviour): void;
  stop(): Promise<void>;
}

/** Answers with a status, headers and a body, and keeps the connection. */
export function answer(status: number, headers: Readonly<Record<string, string>> = {}, body = ""): Behaviour {
  const lines = Object.entries({ "content-length": String(Buffer.byteLength(body)), ...headers });
  const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  return ({ socket }) => void socket.write(`HTTP/1.1 ${status} Some Reason\r\n${head}\r\n${body}`);
}

export async function startProvider(): Promise<Provider> {
  const requests: ReceivedRequest[] = [];
  const sockets = new Set<Socket>();
  let connections = 0;
  let behaviour: Behaviour = answer(200);

  const server = createServer((socket) => {
    connections += 1;
    sockets.add(socket);
    let text = "";
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    socket.on("data", (chunk) => {
      text += chunk.toString("utf8");
      const bodyAt = text.indexOf("\r\n\r\n") + 4;
      const length = Number(/content-length: (\d+)/i.exec(text)?.[1] ?? 0);
      if (bodyAt < 4 || Buffer.byteLength(text.slice(bodyAt)) < length) return;
      const request = { head: text.slice(0, bodyAt), body: text.slice(bodyAt), socket };
      text = "";
      requests.push(request);
      behaviour(request);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/replies?token=x`,
    requests,
    connections: () => connections,
    behave(next) {
      behaviour = next;
    },
    async stop() {
      for (const socket of sockets) socket.destroy();
      server.close();
      if (server.listening) await once(server, "close");
    },
  };
}
