// History checker: decides from what senders and sink saw whether the promise was kept. Pure: it knows nothing of the
// runtime but what DESIGN 8 says of requests and deliveries, and trusts no clock but the order of events.
//
// The order in which a conversation consumed its messages can be recovered from its replies: the fold bot answers each
// message with exactly one reply, so the reply with sequence k tells the k-th message consumed, and the hash of all before
// it. O(n log n) in the length of the history.
//
// Rules, by the invariant of DESIGN 1 that they attack
//   P1  lost                an acknowledged message is in no reply
//       never-acknowledged  a message that was sent and never answered 2xx (the senders go on until it is)
//       undelivered         a reply that was attempted and never answered 2xx
//   P2  doubled             a message was consumed twice
//       phantom             a message was consumed that nobody sent
//       refused             a message was consumed though every request with it was certainly refused
//   P3  request-order       messages of one request and conversation were consumed in another order
//       real-time-order     a message was consumed after one that was first sent when it had long been acknowledged
//   P4  gap                 a sequence number is missing below the highest one
//       delivery-order      a reply was attempted before the one before it was delivered
//       bytes               one idempotency key came with two bodies
//       key                 two replies share a key, one reply has two, a key does not name its reply, or a second life began
//   P5  fold                the hash or count in a reply is not the fold of what was consumed
//       in-reply-to         a reply names another message than the one it answers

import { FOLD_START, type Fold, type FoldClaim, fold, parseClaim } from "./fold.ts";
import type { DeliveryAttempt, History, HistoryLine, RequestAttempt, SentMessage } from "./history.ts";

export type Rule =
  | "lost"
  | "never-acknowledged"
  | "undelivered"
  | "doubled"
  | "phantom"
  | "refused"
  | "request-order"
  | "real-time-order"
  | "gap"
  | "delivery-order"
  | "bytes"
  | "key"
  | "fold"
  | "in-reply-to";

export interface Violation {
  readonly rule: Rule;
  readonly conversation: string;
  readonly detail: string;
  /** The fewest lines that show it. */
  readonly slice: readonly HistoryLine[];
}

export interface CheckOptions {
  /** False for a history that was cut short: then what is missing is no violation, only what contradicts itself. */
  readonly complete: boolean;
}

export function checkHistory(history: History, options: CheckOptions = { complete: true }): Violation[] {
  const conversations = byConversation(history);
  const violations = sharedKeys(history.deliveries);
  for (const conversation of conversations) {
    for (const check of ALWAYS) violations.push(...check(conversation));
    if (options.complete) for (const check of WHEN_COMPLETE) violations.push(...check(conversation));
  }
  return violations;
}

/** A violation as a few lines of text, its slice at most `linesMax` long. */
export function formatViolation(violation: Violation, linesMax = 6): string {
  const { rule, conversation, detail, slice } = violation;
  const shown = slice.slice(0, linesMax).map((line) => `    ${JSON.stringify(line).slice(0, 400)}`);
  const rest = slice.length > linesMax ? [`    and ${slice.length - linesMax} lines more`] : [];
  return [`${rule} in ${JSON.stringify(conversation)}: ${detail}`, ...shown, ...rest].join("\n");
}

// --- the view of one conversation -------------------------------------------------------------------------------------

/** All that was seen of one message of a conversation. */
interface MessageView {
  readonly message: SentMessage;
  readonly attempts: RequestAttempt[];
  /** The attempt whose 2xx came first. */
  firstAck: RequestAttempt | undefined;
  firstSent: RequestAttempt | undefined;
}

/** All that was seen of one reply. */
interface ReplyView {
  readonly sequence: number;
  /** In the order in which they came. */
  readonly attempts: readonly DeliveryAttempt[];
  readonly first: DeliveryAttempt;
  readonly claim: FoldClaim | undefined;
  /** The attempt whose 2xx was given first. */
  readonly delivered: DeliveryAttempt | undefined;
}

interface ConversationView {
  readonly name: string;
  readonly messages: ReadonlyMap<string, MessageView>;
  /** First tries and retries: their items stand in the order that they must be consumed in. */
  readonly requests: readonly RequestAttempt[];
  /** In the order of their sequence. */
  readonly replies: readonly ReplyView[];
}

function byConversation(history: History): ConversationView[] {
  const messages = new Map<string, Map<string, MessageView>>();
  const requests = new Map<string, Map<string, RequestAttempt>>();
  const deliveries = new Map<string, DeliveryAttempt[]>();
  for (const message of history.messages) {
    const view = { message, attempts: [], firstAck: undefined, firstSent: undefined };
    within(messages, message.conversation, () => new Map()).set(message.id, view);
  }
  for (const attempt of history.attempts) {
    for (const { conversation, id } of attempt.items) {
      const view = messages.get(conversation)?.get(id);
      if (view) note(view, attempt);
      if (attempt.purpose === "first") {
        within(requests, conversation, () => new Map()).set(attempt.request, attempt);
      }
    }
  }
  for (const delivery of history.deliveries) within(deliveries, delivery.conversation, () => []).push(delivery);
  return [...new Set([...messages.keys(), ...deliveries.keys()])].map((name) => ({
    name,
    messages: messages.get(name) ?? new Map(),
    requests: [...(requests.get(name)?.values() ?? [])],
    replies: repliesOf(deliveries.get(name) ?? []),
  }));
}

function note(view: MessageView, attempt: RequestAttempt): void {
  view.attempts.push(attempt);
  if (!view.firstSent || attempt.sentUs < view.firstSent.sentUs) view.firstSent = attempt;
  if (attempt.outcome !== "ack") return;
  if (!view.firstAck || attempt.endedUs < view.firstAck.endedUs) view.firstAck = attempt;
}

function repliesOf(deliveries: readonly DeliveryAttempt[]): ReplyView[] {
  const bySequence = new Map<number, DeliveryAttempt[]>();
  for (const delivery of deliveries) within(bySequence, delivery.sequence, () => []).push(delivery);
  return [...bySequence]
    .sort(([a], [b]) => a - b)
    .map(([sequence, seen]) => {
      const attempts = seen.sort((a, b) => a.receivedUs - b.receivedUs);
      const first = attempts[0]!;
      return { sequence, attempts, first, claim: parseClaim(first.text), delivered: firstDelivered(attempts) };
    });
}

function firstDelivered(attempts: readonly DeliveryAttempt[]): DeliveryAttempt | undefined {
  let earliest: DeliveryAttempt | undefined;
  for (const attempt of attempts) {
    if (is2xx(attempt.status) && (!earliest || attempt.answeredUs < earliest.answeredUs)) earliest = attempt;
  }
  return earliest;
}

const is2xx = (status: number): boolean => status >= 200 && status < 300;

function within<Key, Value>(map: Map<Key, Value>, key: Key, make: () => Value): Value {
  const known = map.get(key);
  if (known !== undefined) return known;
  const made = make();
  map.set(key, made);
  return made;
}

// --- the rules --------------------------------------------------------------------------------------------------------

type Check = (conversation: ConversationView) => Iterable<Violation>;

const ALWAYS: readonly Check[] = [
  consumedOnce,
  consumedWasSent,
  requestOrder,
  realTimeOrder,
  noGap,
  deliveryOrder,
  sameBytes,
  ownKey,
  foldHolds,
];
const WHEN_COMPLETE: readonly Check[] = [nothingLost, allAcknowledged, allDelivered];

function* consumedOnce({ name, replies }: ConversationView): Iterable<Violation> {
  const seen = new Map<string, ReplyView>();
  for (const reply of replies) {
    if (!reply.claim) continue;
    const before = seen.get(reply.claim.mid);
    if (before) {
      const detail = `message ${reply.claim.mid} was consumed as ${before.sequence} and again as ${reply.sequence}`;
      yield { rule: "doubled", conversation: name, detail, slice: [before.first, reply.first] };
    } else seen.set(reply.claim.mid, reply);
  }
}

function* consumedWasSent({ name, replies, messages }: ConversationView): Iterable<Violation> {
  for (const { claim, first, sequence } of replies) {
    if (!claim) continue;
    const view = messages.get(claim.mid);
    if (!view?.firstSent) {
      const detail = `reply ${sequence} is for message ${claim.mid}, which nobody sent`;
      yield { rule: "phantom", conversation: name, detail, slice: [first] };
    } else if (view.attempts.every(({ outcome }) => outcome === "nack")) {
      const detail = `message ${claim.mid} was consumed as ${sequence}, but every request with it was refused`;
      yield { rule: "refused", conversation: name, detail, slice: [...view.attempts, first] };
    }
  }
}

function* requestOrder({ name, requests, replies }: ConversationView): Iterable<Violation> {
  const consumed = positions(replies);
  for (const request of requests) {
    let last: { id: string; reply: ReplyView } | undefined;
    for (const { conversation, id } of request.items) {
      const reply = conversation === name ? consumed.get(id) : undefined;
      if (!reply) continue;
      if (last && last.reply.sequence > reply.sequence) {
        const detail = `${last.id} stands before ${id} in the request, but was consumed after it`;
        const slice = [request, reply.first, last.reply.first];
        yield { rule: "request-order", conversation: name, detail, slice };
      }
      last = { id, reply };
    }
  }
}

/** From the end: the earliest acknowledgement among all that was consumed later must not be before this one's first send. */
function* realTimeOrder({ name, replies, messages }: ConversationView): Iterable<Violation> {
  let earliest: { view: MessageView; reply: ReplyView; ackUs: number } | undefined;
  for (const reply of [...replies].reverse()) {
    const view = reply.claim && messages.get(reply.claim.mid);
    if (!view?.firstSent) continue;
    if (earliest && earliest.ackUs < view.firstSent.sentUs) {
      const detail = `${earliest.view.message.id} was acknowledged before ${view.message.id} was first sent, but consumed after it`;
      const slice = [earliest.view.firstAck!, view.firstSent, reply.first, earliest.reply.first];
      yield { rule: "real-time-order", conversation: name, detail, slice };
    }
    const ackUs = view.firstAck?.endedUs ?? Number.POSITIVE_INFINITY;
    if (!earliest || ackUs < earliest.ackUs) earliest = { view, reply, ackUs };
  }
}

function* noGap({ name, replies }: ConversationView): Iterable<Violation> {
  let expected = 1;
  for (const { sequence, first } of replies) {
    if (sequence !== expected) {
      const detail = `reply ${sequence} came, reply ${expected} never did`;
      yield { rule: "gap", conversation: name, detail, slice: [first] };
    }
    expected = sequence + 1;
  }
}

function* deliveryOrder({ name, replies }: ConversationView): Iterable<Violation> {
  for (let i = 1; i < replies.length; i += 1) {
    const before = replies[i - 1]!;
    const { first, sequence } = replies[i]!;
    if (before.delivered && before.delivered.answeredUs <= first.receivedUs) continue;
    const detail = `reply ${sequence} was attempted before reply ${before.sequence} was delivered`;
    const slice = before.delivered ? [first, before.delivered] : [...before.attempts, first];
    yield { rule: "delivery-order", conversation: name, detail, slice };
  }
}

function* sameBytes({ name, replies }: ConversationView): Iterable<Violation> {
  for (const { attempts, sequence } of replies) {
    const byKey = new Map<string, DeliveryAttempt>();
    for (const attempt of attempts) {
      const before = within(byKey, attempt.key, () => attempt);
      if (before.bodyHash === attempt.bodyHash) continue;
      const detail = `reply ${sequence} came with two bodies under one key`;
      yield { rule: "bytes", conversation: name, detail, slice: [before, attempt] };
      break;
    }
  }
}

function* ownKey({ name, replies }: ConversationView): Iterable<Violation> {
  let life: { born: string; by: DeliveryAttempt } | undefined;
  for (const { attempts, first, sequence } of replies) {
    const parts = parseKey(first.key);
    if (parts?.conversation !== name || parts.outSeq !== sequence) {
      const detail = `the key of reply ${sequence} names another one`;
      yield { rule: "key", conversation: name, detail, slice: [first] };
      continue;
    }
    const other = attempts.find(({ key }) => key !== first.key);
    if (other) {
      const detail = `reply ${sequence} came under two keys`;
      yield { rule: "key", conversation: name, detail, slice: [first, other] };
    }
    life ??= { born: parts.born, by: first };
    if (life.born !== parts.born) {
      const detail = `a second life of the conversation began with reply ${sequence}`;
      yield { rule: "key", conversation: name, detail, slice: [life.by, first] };
      life = { born: parts.born, by: first };
    }
  }
}

/** Each reply is held against the one before it, so that one fault is one violation; over a gap nothing can be said. */
function* foldHolds({ name, replies, messages }: ConversationView): Iterable<Violation> {
  let before: Fold | undefined = FOLD_START;
  let last: DeliveryAttempt | undefined;
  for (const { claim, first, sequence } of replies) {
    const slice = last ? [last, first] : [first];
    const message = claim && messages.get(claim.mid)?.message;
    if (!claim) {
      yield { rule: "fold", conversation: name, detail: `reply ${sequence} is not from the fold bot`, slice: [first] };
    } else {
      if (first.inReplyTo !== claim.mid) {
        const detail = `reply ${sequence} answers ${claim.mid} but says that it answers ${first.inReplyTo}`;
        yield { rule: "in-reply-to", conversation: name, detail, slice: [first] };
      }
      const follows = sequence === (last?.sequence ?? 0) + 1;
      const expected = follows && before && message ? fold(before, message) : undefined;
      if (claim.n !== sequence || (expected && (expected.h !== claim.h || expected.n !== claim.n))) {
        const detail = `reply ${sequence} says n=${claim.n} h=${claim.h.slice(0, 12)}, the fold gives n=${expected?.n ?? sequence} h=${expected?.h.slice(0, 12) ?? "?"}`;
        yield { rule: "fold", conversation: name, detail, slice };
      }
    }
    before = claim;
    last = first;
  }
}

function* nothingLost({ name, messages, replies }: ConversationView): Iterable<Violation> {
  const consumed = positions(replies);
  for (const { message, firstAck } of messages.values()) {
    if (!firstAck || consumed.has(message.id)) continue;
    const detail = `${message.id} was acknowledged and is in no reply`;
    yield { rule: "lost", conversation: name, detail, slice: [firstAck] };
  }
}

function* allAcknowledged({ name, messages }: ConversationView): Iterable<Violation> {
  for (const { message, firstAck, attempts } of messages.values()) {
    if (firstAck) continue;
    const detail = `${message.id} was never answered 2xx`;
    yield { rule: "never-acknowledged", conversation: name, detail, slice: [message, ...attempts] };
  }
}

function* allDelivered({ name, replies }: ConversationView): Iterable<Violation> {
  for (const { delivered, attempts, sequence } of replies) {
    if (delivered) continue;
    const detail = `reply ${sequence} was attempted ${attempts.length} times and never delivered`;
    yield { rule: "undelivered", conversation: name, detail, slice: attempts };
  }
}

/** Two replies under one key: a provider that goes by keys would swallow the second. */
function sharedKeys(deliveries: readonly DeliveryAttempt[]): Violation[] {
  const owners = new Map<string, DeliveryAttempt>();
  const reported = new Set<string>();
  const violations: Violation[] = [];
  for (const delivery of deliveries) {
    const owner = within(owners, delivery.key, () => delivery);
    if (owner.conversation === delivery.conversation && owner.sequence === delivery.sequence) continue;
    if (reported.has(delivery.key)) continue;
    reported.add(delivery.key);
    const detail = `replies ${owner.sequence} and ${delivery.sequence} share the key ${delivery.key}`;
    violations.push({ rule: "key", conversation: delivery.conversation, detail, slice: [owner, delivery] });
  }
  return violations;
}

function positions(replies: readonly ReplyView[]): Map<string, ReplyView> {
  const consumed = new Map<string, ReplyView>();
  for (const reply of replies) if (reply.claim) within(consumed, reply.claim.mid, () => reply);
  return consumed;
}

/** `<bot>~<channel>~<conversation>~<born>.<outSeq>`, parts percent-encoded. */
function parseKey(key: string): { conversation: string; born: string; outSeq: number } | undefined {
  const match = /^[^~]+~[^~]+~([^~]+)~([^~.]+)\.(\d+)$/.exec(key);
  if (!match) return undefined;
  try {
    return { conversation: decodeURIComponent(match[1]!), born: match[2]!, outSeq: Number(match[3]) };
  } catch {
    return undefined;
  }
}
