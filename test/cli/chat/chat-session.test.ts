import { fc, test as law } from "@fast-check/vitest";
import { describe, expect, test } from "vitest";
import {
  AnswerError,
  type ChatLine,
  type ChatMessage,
  type ChatServer,
  type Meaning,
} from "../../../src/cli/chat/chat-server.ts";
import { type ChatEvent, ChatSession } from "../../../src/cli/chat/chat-session.ts";
import { compareEntryIds, parseEntryId } from "../../../src/domain/position.ts";
import { VirtualEnvironment } from "../../support/virtual-environment.ts";

/** What the network does to one call. */
type Fate = "fine" | "refuses the connection" | "loses the answer" | "503";

/** A colloquy with an echo bot, whose connections fare as told; when nothing more is told, all is well. */
class FakeServer implements ChatServer {
  environment = new VirtualEnvironment(1);
  readonly transcript: ChatLine[] = [];
  readonly arrivals: ChatMessage[] = [];
  readonly fates: Fate[];
  /** After so many lines a stream breaks; 0 is never. */
  breaksAfter = 0;
  isMute = false;
  answer: Meaning = { kind: "durable" };
  readonly #seen = new Set<string>();
  readonly #followers = new Set<() => void>();

  constructor(fates: readonly Fate[] = []) {
    this.fates = [...fates];
  }

  async send(message: ChatMessage): Promise<Meaning> {
    const fate = this.#fate();
    if (this.answer.kind !== "durable") return this.answer;
    this.arrivals.push(message);
    if (!this.#seen.has(message.id)) {
      this.#seen.add(message.id);
      if (!this.isMute) this.turn(message);
    }
    if (fate === "loses the answer") throw Object.assign(new Error("gone"), { code: "ECONNRESET" });
    return { kind: "durable" };
  }

  async lines(after: string): Promise<readonly ChatLine[]> {
    this.#fate();
    return this.#after(after).slice(0, 200);
  }

  follow(after: string, on: { open(): void; line(line: ChatLine): void }, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#fate();
      on.open();
      let at = after;
      let left = this.breaksAfter || Number.POSITIVE_INFINITY;
      const cut = (): void => reject(new Error("aborted"));
      const end = (): void => {
        this.#followers.delete(push);
        signal.removeEventListener("abort", cut);
        resolve();
      };
      let isPushing = false;
      const push = (): void => {
        if (isPushing) return;
        isPushing = true;
        this.environment.after(1, step);
      };
      /** One line at a time, so that a read can overtake the stream. */
      const step = (): void => {
        isPushing = false;
        const [line, next] = this.#after(at);
        if (signal.aborted || !line) return;
        if (left <= 0) {
          end();
          return;
        }
        left -= 1;
        at = line.id;
        on.line(line);
        if (next) push();
      };
      this.#followers.add(push);
      signal.addEventListener("abort", cut, { once: true });
      push();
    });
  }

  turn({ id, text }: Pick<ChatMessage, "id" | "text">): void {
    const turn = this.transcript.filter(({ role }) => role === "user").length + 1;
    const entry = 100 + turn;
    this.transcript.push(
      { id: `${entry}-0`, role: "user", sequence: turn, messageId: id, inReplyTo: null, text },
      { id: `${entry}-1`, role: "bot", sequence: 2 * turn - 1, inReplyTo: id, text: `heard ${text}` },
      { id: `${entry}-2`, role: "bot", sequence: 2 * turn, inReplyTo: id, text: "twice" },
    );
    for (const push of [...this.#followers]) push();
  }

  #after(after: string): ChatLine[] {
    const from = parseEntryId(after.includes("-") ? after : `${after}-0`);
    return this.transcript.filter(({ id }) => compareEntryIds(parseEntryId(id), from) > 0);
  }

  #fate(): Fate {
    const fate = this.fates.shift() ?? "fine";
    if (fate === "refuses the connection") throw Object.assign(new Error("no"), { code: "ECONNREFUSED" });
    if (fate === "503") throw new AnswerError(503, "503: Redis is away");
    return fate;
  }
}

function sessionOn(server: FakeServer, after = "0-0") {
  const { environment } = server;
  const events: ChatEvent[] = [];
  let count = 0;
  const session = new ChatSession({
    server,
    environment,
    bot: "echo",
    conversation: "c1",
    after,
    newId: () => `m${++count}`,
    tell: (event) => events.push(event),
  });
  session.start();
  const told = (name: ChatEvent["event"]) => events.filter(({ event }) => event === name);
  const lines = () => events.flatMap((event) => (event.event === "line" ? [event.line] : []));
  async function within<T>(promise: Promise<T>): Promise<T> {
    let result: { value: T } | undefined;
    void promise.then((value) => {
      result = { value };
    });
    await environment.until(() => result !== undefined, 3_600_000, "the chat");
    return result!.value;
  }
  return { session, environment, events, told, lines, within };
}

describe("a question", () => {
  test("N3: is answered when all replies of its turn were told", async () => {
    const { session, lines, within } = sessionOn(new FakeServer());
    expect(await within(session.ask("hi", 30_000))).toBe(true);
    expect(lines().map(({ text }) => text)).toEqual(["hi", "heard hi", "twice"]);
    expect(await within(session.ask("you", 30_000))).toBe(true); // while the stream brings what was read already
    expect(lines().map(({ id }) => id)).toEqual(["101-0", "101-1", "101-2", "102-0", "102-1", "102-2"]);
    await within(session.close());
  });

  test("N3: of whose turn the stream gave only the first line is answered with the rest, once", async () => {
    const server = new FakeServer();
    server.breaksAfter = 1;
    const { session, lines, within } = sessionOn(server);
    expect(await within(session.ask("hi", 30_000))).toBe(true);
    expect(await within(session.ask("you", 30_000))).toBe(true);
    expect(lines().map(({ id }) => id)).toEqual(["101-0", "101-1", "101-2", "102-0", "102-1", "102-2"]);
    await within(session.close());
  });

  test("that a bot does not answer in time is told, with whether it is on disk", async () => {
    const server = new FakeServer();
    server.isMute = true;
    const { session, told, within, environment } = sessionOn(server);
    const startMs = environment.nowMs();
    expect(await within(session.ask("hi", 5_000))).toBe(false);
    expect(environment.nowMs() - startMs).toBe(5_000);
    expect(told("unanswered")).toEqual([{ event: "unanswered", id: "m1", isDurable: true }]);
    await within(session.close());
  });

  test("that never reached the server is told as not on disk, and why it waits only once for each reason", async () => {
    const server = new FakeServer(Array<Fate>(500).fill("refuses the connection"));
    const { session, told, within } = sessionOn(server);
    expect(await within(session.ask("hi", 60_000))).toBe(false);
    expect(told("unanswered")).toEqual([{ event: "unanswered", id: "m1", isDurable: false }]);
    expect(told("waiting")).toEqual([{ event: "waiting", id: "m1", why: "nobody listens there" }]);
    expect(told("disconnected")).toEqual([{ event: "disconnected", why: "nobody listens there" }]);
    expect(session.notDurable).toBe(1);
    await within(session.close());
  });

  test("that is refused for good is not sent again", async () => {
    const server = new FakeServer();
    server.answer = { kind: "refused", status: 422, detail: "422: text is too large" };
    const { session, told, within } = sessionOn(server);
    expect(await within(session.ask("hi", 60_000))).toBe(false);
    expect(told("refused")).toEqual([{ event: "refused", id: "m1", status: 422, detail: "422: text is too large" }]);
    expect(told("waiting")).toEqual([]);
    expect(session.notDurable).toBe(0);
    await within(session.close());
  });
});

test("a wait that the server asks for is kept", async () => {
  const server = new FakeServer();
  server.answer = { kind: "again", why: "503: it starts", waitMs: 20_000 };
  const { session, environment, within } = sessionOn(server);
  const startMs = environment.nowMs();
  const { end } = session.say("hi");
  environment.after(1_000, () => {
    server.answer = { kind: "durable" };
  });
  expect(await within(end)).toBe("durable");
  expect(environment.nowMs() - startMs).toBe(20_000);
  await within(session.close());
});

test("lines that others sent, and those after a given one only, are told", async () => {
  const server = new FakeServer();
  server.turn({ id: "other-1", text: "before" });
  const { session, events, within } = sessionOn(server, "101-2");
  server.turn({ id: "other-2", text: "meanwhile" });
  expect(await within(session.ask("hi", 30_000))).toBe(true);
  const told = events.flatMap((event) => (event.event === "line" ? [`${event.line.text} ${event.isMine}`] : []));
  expect(told.slice(0, 4)).toEqual(["meanwhile false", "heard meanwhile false", "twice false", "hi true"]);
  await within(session.close());
});

test("closing ends what is still being sent", async () => {
  const { session, within } = sessionOn(new FakeServer(Array<Fate>(10_000).fill("503")));
  const { end } = session.say("hi");
  await within(session.close());
  expect(await end).toBe("closed");
  expect(session.notDurable).toBe(1);
});

const fates = fc.array(fc.constantFrom<Fate>("fine", "refuses the connection", "loses the answer", "503"), {
  maxLength: 60,
});

law.prop([
  fates,
  fc.integer({ min: 0, max: 4 }),
  fc.array(fc.constantFrom("a", "b", ""), { minLength: 1, maxLength: 6 }),
])(
  "N1, N2: whatever the network does, each message counts once and in order, and each line is told once and in order",
  async (given, breaksAfter, texts) => {
    const server = new FakeServer(given);
    server.breaksAfter = breaksAfter;
    const { session, lines, within, environment } = sessionOn(server);
    const ends = texts.map((text) => session.say(text).end);
    expect(await within(Promise.all(ends))).toEqual(texts.map(() => "durable"));
    await environment.until(() => lines().length >= texts.length * 3, 3_600_000, "all lines");
    const first = server.arrivals.filter(({ id }, i) => server.arrivals.findIndex((other) => other.id === id) === i);
    expect(first.map(({ text }) => text)).toEqual(texts);
    expect(lines()).toEqual(server.transcript);
    expect(session.notDurable).toBe(0);
    await within(session.close());
  },
);
