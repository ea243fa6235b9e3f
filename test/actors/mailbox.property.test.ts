// B1 to B3 of actors/mailbox.ts against a model that is two plain arrays.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Mailbox } from "../../actors/mailbox.ts";
import type { InboxMessage } from "../../src/domain/message.ts";

const message = (n: number, waitingId: number | null = null): InboxMessage => ({
  kind: "message",
  position: { entry: { ms: n, seq: 0 }, index: 0 },
  source: { id: { ms: n, seq: 0 }, bytes: 10, undecided: 1 },
  key: "k" as never,
  id: `m${n}`,
  idHash: { lo: n, hi: 0 },
  bodyHash: 0,
  sequence: undefined,
  sentAtMs: undefined,
  text: "",
  dataJson: "",
  bytes: 10,
  extra: null,
  waitingId,
});

/** What Redis and the inbox hold. */
interface Model {
  inbox: InboxMessage[];
  list: InboxMessage[];
  next: number;
  nextId: number;
  /** Of the list, how many were handed to the mailbox since it last forgot them. */
  read: number;
}

type Step = "arrives" | "is moved" | "is read" | "is decided" | "is forgotten" | "is taken out";
const steps = fc.array(
  fc.constantFrom<Step>(
    ...([
      "arrives",
      "arrives",
      "arrives",
      "is moved",
      "is moved",
      "is read",
      "is read",
      "is decided",
      "is decided",
    ] as const),
    "is forgotten",
    "is taken out",
  ),
  { maxLength: 60 },
);

function step(mailbox: Mailbox, model: Model, what: Step, windowMax: number): void {
  switch (what) {
    case "arrives":
      model.inbox.push(message(++model.next));
      mailbox.push(model.inbox.at(-1)!);
      break;
    case "is moved": {
      const moved = mailbox.shiftInbox();
      expect(moved).toBe(model.inbox.shift());
      if (moved === undefined) break;
      const listed = { ...moved, waitingId: model.nextId++ };
      model.list.push(listed);
      if (mailbox.moved(listed)) model.read += 1;
      break;
    }
    case "is read": {
      const next = model.list[model.read];
      if (next === undefined || !mailbox.hasRoomFor(next)) break;
      mailbox.wasRead(next);
      model.read += 1;
      break;
    }
    case "is decided": {
      const head = mailbox.head();
      if (head === undefined || head === "unread") break;
      mailbox.shift();
      if (head.waitingId === null) model.inbox.shift();
      else {
        model.list.splice(model.list.indexOf(head), 1);
        model.read -= 1;
      }
      break;
    }
    case "is forgotten":
      mailbox.leaveOnList(model.list.length);
      model.read = 0;
      break;
    case "is taken out": {
      const last = model.list[model.read - 1];
      if (last === undefined || mailbox.hasFirst) break;
      expect(mailbox.takeListed(last.position)).toBe(last);
      mailbox.putFirst(last);
      model.list.splice(model.list.indexOf(last), 1);
      model.list.unshift(last); // it goes before all others
      break;
    }
  }
  expect(mailbox.depth - mailbox.inInbox).toBeLessThanOrEqual(windowMax + 1); // B3, and the one taken out
}

describe("a mailbox", () => {
  test("is the list and then the inbox, whatever of the list is in memory (B1, B2, B3)", () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(steps, fc.integer({ min: 1, max: 4 }), (all, windowMax) => {
        const mailbox = new Mailbox({ mailboxMax: windowMax, mailboxBytesMax: 1_000 });
        const model: Model = { inbox: [], list: [], next: 0, nextId: 1, read: 0 };
        for (const what of all) {
          step(mailbox, model, what, windowMax);
          const expected = model.read > 0 ? model.list[0] : model.list.length > 0 ? "unread" : model.inbox[0];
          expect(mailbox.head()).toBe(expected); // B1
          expect(mailbox.unread + model.read).toBe(model.list.length); // B2
          const here = [...model.list.slice(0, model.read), ...model.inbox];
          expect(new Set(mailbox.undecided())).toEqual(new Set(here));
          expect([mailbox.inInbox, mailbox.depth]).toEqual([model.inbox.length, model.inbox.length + model.read]);
          expect(mailbox.firstInInbox()).toBe(model.inbox[0]);
          expect(mailbox.isEmpty).toBe(model.inbox.length === 0);
          expect(mailbox.isOverBound).toBe(model.inbox.length > windowMax);
          seen.add(typeof expected === "string" ? "unread" : expected === undefined ? "nothing" : "message");
        }
        expect(mailbox.drain().messages).toEqual(model.inbox);
      }),
      { numRuns: 500 },
    );
    expect(seen).toEqual(new Set(["unread", "nothing", "message"]));
  });

  test("bounds its bytes as well: one that is larger than all of it is taken when nothing else is there", () => {
    const mailbox = new Mailbox({ mailboxMax: 100, mailboxBytesMax: 25 });
    mailbox.leaveOnList(4);
    const large = { ...message(1, 1), bytes: 1_000 };
    expect(mailbox.hasRoomFor(large)).toBe(true);
    mailbox.wasRead(large);
    expect(mailbox.hasRoomFor(message(2, 2))).toBe(false);
    mailbox.shift();
    mailbox.wasRead(message(2, 2));
    mailbox.wasRead(message(3, 3));
    expect([mailbox.hasRoomFor(message(4, 4)), mailbox.head()]).toEqual([false, message(2, 2)]);
    mailbox.push({ ...message(5), bytes: 26 });
    expect(mailbox.isOverBound).toBe(true);
  });
});
