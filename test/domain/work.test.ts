// V1 to V3 of src/domain/work.ts: what the end of a turn changes in the record beside state and counts.

import { fc, test as law } from "@fast-check/vitest";
import { describe, expect, test } from "vitest";
import type { InboxMessage } from "../../src/domain/message.ts";
import { NO_OPEN_TURN, type Notice, newRecord, withExtra } from "../../src/domain/record.ts";
import {
  extraAfterTurn,
  isToldOfDelivery,
  markerOf,
  messageWork,
  noticesBehind,
  noticeWork,
  positionOf,
} from "../../src/domain/work.ts";
import { at, numbered } from "./support/numbered.ts";

const message = numbered(undefined, 9) as InboxMessage;
const notice = (ms: number): Notice => ({ kind: "gap", position: at(ms), from: 1, to: 2 });
const order = { epoch: 0, next: 3 };
const waiting = { nextId: 4, count: 2, bytes: 60, isFull: false };

const noticeLists = fc.array(fc.nat(100).map(notice), { maxLength: 3 });

describe("the end of a turn", () => {
  test("of a message in the plain case changes nothing else, and keeps its order where it has one", () => {
    expect(extraAfterTurn(newRecord(at(1)), messageWork(message, false, undefined))).toBeNull();
    expect(extraAfterTurn(newRecord(at(1)), messageWork(message, false, order))).toEqual({ order });
  });

  law.prop([noticeLists, fc.boolean(), fc.boolean()])(
    "takes the open turn and the mark of a suspect, and leaves the waiting list (V1)",
    (notices, isNotice, isSuspect) => {
      const extra = {
        waiting,
        openTurn: { ...NO_OPEN_TURN, position: at(9) },
        suspect: isSuspect ? 8 : undefined,
        notices: [notice(1), ...notices],
      };
      const record = withExtra(newRecord(at(1)), extra);
      const parts = extraAfterTurn(record, isNotice ? noticeWork(notice(1)) : messageWork(message, false, undefined));
      expect(withExtra(record, parts!).extra).toEqual({
        waiting,
        ...((!isNotice || notices.length > 0) && { notices: isNotice ? notices : [notice(1), ...notices] }),
      });
    },
  );

  law.prop([noticeLists])(
    "of a notice leaves the outside's order as it was, that of a message sets it (V2)",
    (notices) => {
      const before = { epoch: 1, next: 8 };
      const record = withExtra(newRecord(at(1)), { order: before, notices: [notice(1), ...notices] });
      expect(extraAfterTurn(record, noticeWork(notice(1)))).toMatchObject({ order: before });
      expect(extraAfterTurn(record, messageWork(message, true, order))).toMatchObject({ order });
    },
  );

  law.prop([noticeLists])("takes the oldest notice and leaves no empty list of them", (notices) => {
    expect(noticesBehind(notices)).toEqual(notices.length <= 1 ? undefined : notices.slice(1));
  });

  test("stands where the message does, or what the notice is about", () => {
    expect(positionOf(messageWork(message, false, undefined))).toEqual(at(9));
    expect(positionOf(noticeWork(notice(4)))).toEqual(at(4));
  });
});

describe("a marker", () => {
  const marker = numbered(undefined, 9, { extra: { deliveryFailed: { outSeq: 4, reason: "gone" } } }) as InboxMessage;

  test("is told as a notice and consumed as a message (V3)", () => {
    const work = messageWork(marker, false, order);
    expect(work.notice).toEqual({ kind: "delivery-failed", position: at(9), outSeq: 4, reason: "gone" });
    expect([work.message, positionOf(work)]).toEqual([marker, at(9)]);
    expect([markerOf(message), messageWork(message, false, order).notice]).toEqual([null, null]);
  });

  test("leaves the notices of the record to their own turns, and the open turn to nobody (V1, V2)", () => {
    const openTurn = { ...NO_OPEN_TURN, position: at(9) };
    const record = withExtra(newRecord(at(1)), { order, openTurn, notices: [notice(1)] });
    const after = withExtra(record, extraAfterTurn(record, messageWork(marker, false, order))!);
    expect(after.extra).toEqual({ order, notices: [notice(1)] });
  });

  test("is for bots with ordering `available` and a handler for it (V3)", () => {
    const deliveryFailed = (): null => null;
    for (const ordering of ["available", "strict", undefined] as const)
      for (const onNotice of [{ deliveryFailed }, {}, undefined])
        expect(isToldOfDelivery({ ...(ordering && { ordering }), ...(onNotice && { onNotice }) })).toBe(
          ordering === "available" && onNotice !== undefined && "deliveryFailed" in onNotice,
        );
  });
});
