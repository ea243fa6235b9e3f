// Poison sink: takes replies in the test's own process, and knows of each conversation what was delivered, in order, once.

import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import type { Arena } from "./arena.ts";

interface Delivered {
  readonly sequence: number;
  readonly inReplyTo: string | null;
  readonly text: string;
  readonly body: string;
}

export class ReplySink {
  /** What `--deliver-to` is given. */
  readonly url: string;
  /** A reply that came a second time with other bytes, or out of order: must stay empty. */
  readonly wrongs: string[] = [];
  readonly #byConversation = new Map<string, Delivered[]>();
  readonly #byKey = new Map<string, string>();
  #onReply: (bot: string, conversation: string) => void = () => undefined;

  private constructor(port: number) {
    this.url = `http://127.0.0.1:${port}/deliver`;
  }

  static async start(arena: Arena): Promise<ReplySink> {
    const server = createServer(async (request, response) => {
      const body = await text(request).catch(() => null);
      if (body === null) return; // the sender died in the middle of it
      sink.#take(String(request.headers["idempotency-key"]), body);
      response.writeHead(200).end();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const sink = new ReplySink((server.address() as AddressInfo).port);
    arena.onCleanUp(() => {
      server.closeAllConnections();
      server.close();
    });
    return sink;
  }

  #take(key: string, body: string): void {
    const known = this.#byKey.get(key);
    if (known !== undefined) {
      if (known !== body) this.wrongs.push(`${key} came again as ${body}, not ${known}`);
      return;
    }
    this.#byKey.set(key, body);
    const { bot, conversation, sequence, inReplyTo, text: words } = JSON.parse(body);
    const replies = this.#of(bot, conversation);
    if (sequence !== replies.length + 1) this.wrongs.push(`${key} came after ${replies.length} replies`);
    replies.push({ sequence, inReplyTo, text: words, body });
    this.#onReply(bot, conversation);
  }

  /** Called at the first delivery of each reply. */
  onReply(take: (bot: string, conversation: string) => void): void {
    this.#onReply = take;
  }

  /** Texts of the replies of a conversation, in the order of their first delivery. */
  texts(bot: string, conversation: string): string[] {
    return this.#of(bot, conversation).map((reply) => reply.text);
  }

  get count(): number {
    return this.#byKey.size;
  }

  #of(bot: string, conversation: string): Delivered[] {
    const name = JSON.stringify([bot, conversation]);
    const found = this.#byConversation.get(name) ?? [];
    this.#byConversation.set(name, found);
    return found;
  }
}
