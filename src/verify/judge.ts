// History judge: decides from what clients and sink saw, and from what the store's own log says, whether the promise was kept.
// Pure: of the runtime it knows what DESIGN 8 says of requests and deliveries, and trusts no clock but the order of events.
//
// The order in which a conversation consumed its messages has two witnesses. One is the store's log (log-judge.ts). The other
// are the replies of a bot that folds (fold.ts): it answers each message with exactly one reply, so the reply with sequence k
// tells the k-th message consumed, and the hash of all before it. Each witness that there is must satisfy each rule.
// O(n log n) in the length of the history.
//
// Rules, by the invariant of verdict.ts that they attack
//   I1  lost                an acknowledged message was consumed by no turn and does not wait
//   I2  doubled             a message was consumed twice
//   I3  phantom             a message was consumed that nobody sent
//       refused             a message was consumed though every request with it was certainly refused
//   I4  request-order       messages of one request and conversation were consumed in another order
//       real-time-order     a message was consumed after one that was first sent when it had long been acknowledged
//   I5  fold                the hash or count in a reply is not the fold of what was consumed
//       in-reply-to         a reply names another message than the one it answers
//   I6  undelivered         a reply that was attempted and never answered 2xx
//   I7  gap                 a sequence number is missing below the highest one
//       delivery-order      a reply was attempted before the one before it was delivered
//   I9  bytes               one idempotency key came with two bodies
//       key                 two replies share a key, one reply has two, a key does not name its reply, or a second life began
//   I14 never-acknowledged  a message that was sent and never answered 2xx (the clients go on until it is)

import { FOLD_START, type Fold, type FoldClaim, fold, parseClaim } from "./fold.ts";
import {
  type DeliveryAttempt,
  type History,
  type HistoryLine,
  nameOf,
  type RequestAttempt,
  type SentMessage,
  type StoreEvent,
} from "./history.ts";
import { nameOfReply } from "./lane-log.ts";
import { judgeLog, type LogOptions, type LogRule, type LogView, viewLog } from "./log-judge.ts";

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

export interface Violation<Named extends string = Rule | LogRule> {
  readonly rule: Named;
  /** Or, for what concerns a whole shard, the shard. */
  readonly conversation: string;
  readonly detail: string;
  /** The fewest lines that show it. */
  readonly slice: readonly HistoryLine[];
}

export interface CheckOptions {
  /** False for a history that was cut short: then what is missing is no violation, only what contradicts itself. */
  readonly complete: boolean;
  /** Whether the bot folds, so that its replies are a witness. Default: true. */
  readonly fold?: boolean;
  /** What the store's log says; without it the log is no witness. */
  readonly log?: LogOptions & { readonly events: readonly StoreEvent[] };
  /** Whether there are logs of clients, of the sink. Default: true. */
  readonly clients?: boolean;
  readonly sink?: boolean;
}

export function checkHistory(history: History, options: CheckOptions = { complete: true }): Violation[] {
  const { complete, fold: folds = true, clients = true, sink = true, log } = options;
  const conversations = byConversation(history, folds, log);
  const violations: Violation[] = sharedKeys(history.deliveries);
  for (const conversation of conversations) {
    if (conversation.log && log) {
      const delivered = new Map(conversation.replies.map((reply) => [reply.name, reply]));
      violations.push(...judgeLog(conversation.log, { ...log, complete }, sink ? delivered : undefined));
    }
    const checks = [
      ...(clients ? WITH_CLIENTS : []),
      ...(sink ? WITH_SINK : []),
      ...(folds && clients ? WITH_FOLD : []),
      ...(complete && clients ? WITH_CLIENTS_WHEN_COMPLETE : []),
      ...(complete && sink ? [allDelivered] : []),
    ];
    for (const check of checks) violations.push(...check(conversation));
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

/** All that was seen of one reply, or of one part of a reply. */
interface ReplyView {
  readonly sequence: number;
  /** From 1; 1 for a reply that is one. */
  readonly part: number;
  /** `7`, of a part `7.2`. */
  readonly name: string;
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
  /** In the order of their sequence, and of their parts. */
  readonly replies: readonly ReplyView[];
  readonly witnesses: readonly Witness[];
  readonly log: LogView | undefined;
  /** Names of replies that became dead letters: their place in the order is nobody's. */
  readonly buried: ReadonlySet<string>;
  /** Of these, the ones that did not come back. */
  readonly dead: ReadonlySet<string>;
  /** The reply at which its lane is halted; what comes from there on need not be delivered. */
  readonly haltedFrom: number;
}

/** A message that was consumed, in the order in which it was. */
interface Consumed {
  readonly id: string;
  readonly seq: number;
  readonly shownBy: HistoryLine;
}

/** Who says what was consumed. */
interface Witness {
  readonly consumed: readonly Consumed[];
  /** Ids that wait or were set aside, and that are therefore not lost. */
  readonly elsewhere: ReadonlySet<string>;
}

function byConversation(history: History, folds: boolean, log: CheckOptions["log"]): ConversationView[] {
  const messages = new Map<string, Map<string, MessageView>>();
  const requests = new Map<string, Map<string, RequestAttempt>>();
  const deliveries = new Map<string, DeliveryAttempt[]>();
  const events = new Map<string, StoreEvent[]>();
  for (const message of history.messages) {
    const view = { message, attempts: [], firstAck: undefined, firstSent: undefined };
    const name = nameOf(message, message.conversation);
    const known = within(messages, name, () => new Map());
    if (!known.has(message.id)) known.set(message.id, view);
  }
  for (const attempt of history.attempts) {
    for (const { conversation, id } of attempt.items) {
      const name = nameOf(attempt, conversation);
      const view = messages.get(name)?.get(id);
      if (view) note(view, attempt);
      if (attempt.purpose === "first") within(requests, name, () => new Map()).set(attempt.request, attempt);
    }
  }
  for (const delivery of history.deliveries) {
    within(deliveries, nameOf(delivery, delivery.conversation), () => []).push(delivery);
  }
  for (const event of log?.events ?? []) within(events, nameOf(event, event.conversation), () => []).push(event);
  return [...new Set([...messages.keys(), ...deliveries.keys(), ...events.keys()])].map((name) => {
    const replies = repliesOf(deliveries.get(name) ?? [], folds);
    const view = log && viewLog(name, events.get(name) ?? []);
    const witnesses: Witness[] = [];
    const elsewhere = new Set(view ? [...view.waiting, ...view.setAside] : []);
    if (folds) witnesses.push({ consumed: claimedBy(replies), elsewhere });
    if (view && log?.isWhole) witnesses.push({ consumed: view.consumed, elsewhere });
    return {
      name,
      messages: messages.get(name) ?? new Map(),
      requests: [...(requests.get(name)?.values() ?? [])],
      replies,
      witnesses,
      log: view,
      buried: view?.buried ?? new Set<string>(),
      dead: view?.dead ?? new Set<string>(),
      haltedFrom: view?.haltedFrom ?? Number.POSITIVE_INFINITY,
    };
  });
}

function claimedBy(replies: readonly ReplyView[]): Consumed[] {
  return replies.flatMap(({ claim, sequence, first }) =>
    claim ? [{ id: claim.mid, seq: sequence, shownBy: first }] : [],
  );
}

function note(view: MessageView, attempt: RequestAttempt): void {
  view.attempts.push(attempt);
  if (!view.firstSent || attempt.sentUs < view.firstSent.sentUs) view.firstSent = attempt;
  if (attempt.outcome !== "ack") return;
  if (!view.firstAck || attempt.endedUs < view.firstAck.endedUs) view.firstAck = attempt;
}

function repliesOf(deliveries: readonly DeliveryAttempt[], folds: boolean): ReplyView[] {
  const byName = new Map<string, DeliveryAttempt[]>();
  for (const delivery of deliveries) {
    const { sequence: outSeq, key } = delivery;
    within(byName, nameOfReply({ outSeq, part: parseKey(key)?.part }), () => []).push(delivery);
  }
  return [...byName]
    .map(([name, seen]): ReplyView => {
      const attempts = seen.sort((a, b) => a.receivedUs - b.receivedUs);
      const first = attempts[0]!;
      const { sequence, key, text } = first;
      const claim = folds ? parseClaim(text) : undefined;
      const part = parseKey(key)?.part ?? 1;
      return { sequence, part, name, attempts, first, claim, delivered: firstDelivered(attempts) };
    })
    .sort((a, b) => a.sequence - b.sequence || a.part - b.part);
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

const WITH_CLIENTS: readonly Check[] = [consumedWasSent, requestOrder, realTimeOrder];
const WITH_SINK: readonly Check[] = [noGap, deliveryOrder, sameBytes, ownKey];
const WITH_FOLD: readonly Check[] = [consumedOnce, foldHolds];
const WITH_CLIENTS_WHEN_COMPLETE: readonly Check[] = [nothingLost, allAcknowledged];

/** Of the replies of a bot that folds; the store's log has a rule of its own, which knows how long an id is remembered. */
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

function* consumedWasSent({ name, witnesses, messages }: ConversationView): Iterable<Violation> {
  for (const { consumed } of witnesses) {
    for (const { id, seq, shownBy } of consumed) {
      const view = messages.get(id);
      if (!view?.firstSent) {
        const detail = `turn ${seq} consumed message ${id}, which nobody sent`;
        yield { rule: "phantom", conversation: name, detail, slice: [shownBy] };
      } else if (view.attempts.every(({ outcome }) => outcome === "nack")) {
        const detail = `message ${id} was consumed as ${seq}, but every request with it was refused`;
        yield { rule: "refused", conversation: name, detail, slice: [...view.attempts, shownBy] };
      }
    }
  }
}

function* requestOrder({ name, requests, witnesses, log }: ConversationView): Iterable<Violation> {
  if (log?.isOrdered) return; // then the outside's numbers decide, and the log's rules know them
  for (const { consumed } of witnesses) {
    const places = placesOf(consumed);
    for (const request of requests) {
      let last: Consumed | undefined;
      for (const { conversation, id } of request.items) {
        const place = nameOf(request, conversation) === name ? places.get(id) : undefined;
        if (!place) continue;
        if (last && last.seq > place.seq) {
          const detail = `${last.id} stands before ${id} in the request, but was consumed after it`;
          const slice = [request, place.shownBy, last.shownBy];
          yield { rule: "request-order", conversation: name, detail, slice };
        }
        last = place;
      }
    }
  }
}

/** From the end: the earliest acknowledgement among all that was consumed later must not be before this one's first send. */
function* realTimeOrder({ name, witnesses, messages, log }: ConversationView): Iterable<Violation> {
  if (log?.isOrdered) return;
  for (const { consumed } of witnesses) {
    let earliest: { view: MessageView; shownBy: HistoryLine; ackUs: number } | undefined;
    for (let i = consumed.length - 1; i >= 0; i -= 1) {
      const { id, shownBy } = consumed[i]!;
      const view = messages.get(id);
      if (!view?.firstSent) continue;
      if (earliest && earliest.ackUs < view.firstSent.sentUs) {
        const detail = `${earliest.view.message.id} was acknowledged before ${id} was first sent, but consumed after it`;
        const slice = [earliest.view.firstAck!, view.firstSent, shownBy, earliest.shownBy];
        yield { rule: "real-time-order", conversation: name, detail, slice };
      }
      const ackUs = view.firstAck?.endedUs ?? Number.POSITIVE_INFINITY;
      if (!earliest || ackUs < earliest.ackUs) earliest = { view, shownBy, ackUs };
    }
  }
}

function* noGap({ name, replies, buried }: ConversationView): Iterable<Violation> {
  const isBuried = (sequence: number, part: number): boolean =>
    buried.has(`${sequence}.${part}`) || (part === 1 && buried.has(String(sequence)));
  let last = { sequence: 0, part: 1 };
  for (const { sequence, part, first, name: came } of replies) {
    let missing = last.sequence === sequence ? last.part + 1 : 1;
    let whole = last.sequence === sequence ? sequence : last.sequence + 1;
    while (whole < sequence && isBuried(whole, 1)) whole += 1;
    while (whole === sequence && missing < part && isBuried(sequence, missing)) missing += 1;
    if (whole !== sequence || missing !== part) {
      const expected = whole === sequence && part > 1 ? `${whole}.${missing}` : String(whole);
      yield {
        rule: "gap",
        conversation: name,
        detail: `reply ${came} came, reply ${expected} never did`,
        slice: [first],
      };
    }
    last = { sequence, part };
  }
}

/** One that was a dead letter came back when others had gone on; it is held against nobody. */
function* deliveryOrder({ name, replies, buried }: ConversationView): Iterable<Violation> {
  const inOrder = replies.filter((reply) => reply.delivered === undefined || !buried.has(reply.name));
  for (let i = 1; i < inOrder.length; i += 1) {
    const before = inOrder[i - 1]!;
    const { first, name: came } = inOrder[i]!;
    if (before.delivered && before.delivered.answeredUs <= first.receivedUs) continue;
    if (!before.delivered && buried.has(before.name)) continue;
    const detail = `reply ${came} was attempted before reply ${before.name} was delivered`;
    const slice = before.delivered ? [first, before.delivered] : [...before.attempts, first];
    yield { rule: "delivery-order", conversation: name, detail, slice };
  }
}

function* sameBytes({ name, replies }: ConversationView): Iterable<Violation> {
  for (const { attempts, name: came } of replies) {
    const byKey = new Map<string, DeliveryAttempt>();
    for (const attempt of attempts) {
      const before = within(byKey, attempt.key, () => attempt);
      if (before.bodyHash === attempt.bodyHash) continue;
      const detail = `reply ${came} came with two bodies under one key`;
      yield { rule: "bytes", conversation: name, detail, slice: [before, attempt] };
      break;
    }
  }
}

function* ownKey({ name, replies }: ConversationView): Iterable<Violation> {
  let life: { born: string; by: DeliveryAttempt } | undefined;
  for (const { attempts, first, sequence } of replies) {
    const parts = parseKey(first.key);
    if (parts?.conversation !== first.conversation || !isBotOf(first, parts) || parts.outSeq !== sequence) {
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

function* nothingLost({ name, messages, witnesses }: ConversationView): Iterable<Violation> {
  for (const { consumed, elsewhere } of witnesses) {
    const places = placesOf(consumed);
    for (const { message, firstAck } of messages.values()) {
      if (!firstAck || places.has(message.id) || elsewhere.has(message.id)) continue;
      const detail = `${message.id} was acknowledged and consumed by no turn`;
      yield { rule: "lost", conversation: name, detail, slice: [firstAck] };
    }
  }
}

function* allAcknowledged({ name, messages }: ConversationView): Iterable<Violation> {
  for (const { message, firstAck, attempts } of messages.values()) {
    if (firstAck) continue;
    const detail = `${message.id} was never answered 2xx`;
    yield { rule: "never-acknowledged", conversation: name, detail, slice: [message, ...attempts] };
  }
}

function* allDelivered({ name, replies, dead, haltedFrom }: ConversationView): Iterable<Violation> {
  for (const { delivered, attempts, sequence, name: came } of replies) {
    if (delivered || dead.has(came) || sequence >= haltedFrom) continue;
    const detail = `reply ${came} was attempted ${attempts.length} times and never delivered`;
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
    const isSameReply = owner.sequence === delivery.sequence && owner.conversation === delivery.conversation;
    if (isSameReply && owner.bot === delivery.bot && owner.channel === delivery.channel) continue;
    if (reported.has(delivery.key)) continue;
    reported.add(delivery.key);
    const detail = `replies ${owner.sequence} and ${delivery.sequence} share the key ${delivery.key}`;
    violations.push({ rule: "key", conversation: delivery.conversation, detail, slice: [owner, delivery] });
  }
  return violations;
}

function placesOf(consumed: readonly Consumed[]): Map<string, Consumed> {
  const places = new Map<string, Consumed>();
  for (const place of consumed) within(places, place.id, () => place);
  return places;
}

interface KeyParts {
  readonly bot: string;
  readonly channel: string;
  readonly conversation: string;
  readonly born: string;
  readonly outSeq: number;
  readonly part: number | undefined;
}

/** `<bot>~<channel>~<conversation>~<born>.<outSeq>`, names percent-encoded; of a part `.<part>` behind it. */
function parseKey(key: string): KeyParts | undefined {
  const match = /^([^~]+)~([^~]+)~([^~]+)~([^~.]+)\.(\d+)(?:\.(\d+))?$/.exec(key);
  if (!match) return undefined;
  try {
    const [bot, channel, conversation] = match.slice(1, 4).map(decodeURIComponent);
    const part = match[6] === undefined ? undefined : Number(match[6]);
    const names = { bot: bot!, channel: channel!, conversation: conversation! };
    return { ...names, born: match[4]!, outSeq: Number(match[5]), part };
  } catch {
    return undefined;
  }
}

const isBotOf = ({ bot, channel }: DeliveryAttempt, parts: KeyParts): boolean =>
  bot === undefined || (bot === parts.bot && (channel ?? "http") === parts.channel);
