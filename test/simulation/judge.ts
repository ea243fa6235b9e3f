// Judge: was the promise kept in a simulated run? Pure; it knows the trail bot, nothing else of the runtime, and takes no node's word
// for anything. What the store carried out is judged by the rules of `colloquy verify` as well (src/verify/log-judge.ts), under the
// name that stands for the same here.
//
// Rules, by the invariant that they attack
//   P1  lost          an acknowledged message was consumed by no turn, is no dead letter and does not wait; or what was set aside is
//                     not among the dead letters; or a committed turn's send never came
//       stuck         something waits at the end although nothing fails any more and nothing is halted, or a reply was neither
//                     delivered nor set aside
//   P2  doubled       a message was consumed twice, or what was sent once came twice
//       phantom       a message was consumed that nobody sent, or came from a turn that never was
//       effect        a side effect was made again when its result was journaled, twice by one owner, or under the key of another; or
//                     a turn goes by a result that it never had
//   P3  order         messages of one request, or one sent after another was acknowledged, were consumed in another order; or sends
//                     of one conversation to another came in another order
//   P4  early         a reply left before the commit that contains it
//       bytes         one idempotency key came with two bodies, or two replies share a key
//       delivery      a reply was attempted before the one before it was accepted or set aside by a commit
//       reply         a reply is not what its turn replied
//       transcript    a transcript is not what the turns consumed and replied, each line once and in order
//   P5  state         a stored record is not what the turns up to it made of it: state, seq, outSeq, chain, born
//   P6  fence         a commit was applied under an epoch that was over, or not that of who sent it; numbers have a gap
//       duel          processes took a shard from each other again and again although nothing failed any more
//   -   alarm         the runtime said what it should never have to say

import { conversationKey, shardOf } from "../../src/domain/ids.ts";
import type { RequestAttempt, SentMessage as SentLine } from "../../src/verify/history.ts";
import { checkHistory, type Violation as LogViolation } from "../../src/verify/judge.ts";
import { type AnyRule, INVARIANT_OF } from "../../src/verify/verdict.ts";
import type {
  AppliedCommit,
  ArrivedSend,
  CommittedRecord,
  CommittedReply,
  Effect,
  ReceivedDelivery,
  SentMessage,
  SentRequest,
  SimulatedHistory,
} from "./history.ts";
import { idOf, parseSeen, TRAIL_START, type Trail, type TrailClaim, type TrailSend, walk } from "./trail-bot.ts";

export type Rule =
  | "lost"
  | "stuck"
  | "doubled"
  | "phantom"
  | "effect"
  | "order"
  | "early"
  | "bytes"
  | "delivery"
  | "reply"
  | "transcript"
  | "state"
  | "fence"
  | "duel"
  | "alarm";

/** As what a violation of an invariant of `colloquy verify` counts here. */
const AS: Readonly<Record<string, Rule>> = {
  I1: "lost",
  I2: "doubled",
  I3: "phantom",
  I4: "order",
  I5: "state",
  I6: "stuck",
  I7: "delivery",
  I8: "reply",
  I9: "bytes",
  I10: "fence",
  I11: "state",
  I13: "stuck",
  I14: "stuck",
};

/** After the world is mended: each living process may take a shard once, and once more where it was on its way. */
const CALM_ACQUISITIONS_MAX = 8;

export interface Violation {
  readonly rule: Rule;
  readonly where: string;
  readonly detail: string;
}

export function judge(history: SimulatedHistory): Violation[] {
  const violations: Violation[] = history.alarms.map((detail) => ({ rule: "alarm", where: "runtime", detail }));
  violations.push(...fenced(history), ...duels(history), ...sharedKeys(history.deliveries), ...deadLetters(history));
  violations.push(...logged(history));
  if (history.final.inboxEntries > 0)
    violations.push({ rule: "stuck", where: "inbox", detail: `${history.final.inboxEntries} entries are left` });
  for (const { conversation, sequence } of history.final.retryingLanes) {
    const where = `${conversation} reply ${sequence}`;
    violations.push({ rule: "stuck", where, detail: "its lane is to try it again, when nothing fails any more" });
  }
  const views = conversationsOf(history);
  const ways = new Map(views.map((view) => [view.name, wayOf(view)]));
  for (const conversation of views) {
    const way = ways.get(conversation.name)!;
    violations.push(...consumption(conversation));
    if (!conversation.isOrdered) violations.push(...order(conversation));
    violations.push(...records(conversation, way));
    violations.push(...replies(conversation, way));
    violations.push(...(conversation.isTranscribed ? transcript(conversation, way) : deliveries(conversation)));
  }
  violations.push(...sends(history.sends, ways), ...effects(history, ways));
  return violations;
}

/** The store's log, by the rules of `colloquy verify`. */
function* logged(history: SimulatedHistory): Iterable<Violation> {
  const { conversations, requests, log, contiguous } = history;
  const sent = history.messages.map((message): SentLine => ({ ...message, ...namesIn(conversations, message) }));
  const attempts = requests.map(({ conversation, ids, firstSentAt, ackedAt }, i): RequestAttempt => {
    const names = namesIn(conversations, { conversation });
    return {
      kind: "attempt",
      bot: names.bot,
      channel: names.channel,
      request: String(i),
      attempt: 1,
      purpose: "first",
      items: ids.map((id) => ({ conversation: names.conversation, id })),
      sentUs: firstSentAt,
      endedUs: ackedAt ?? Number.MAX_SAFE_INTEGER,
      outcome: ackedAt === null ? "unknown" : "ack",
      status: ackedAt === null ? 0 : 202,
    };
  });
  const found: LogViolation<AnyRule>[] = [...log.violations];
  for (const isContiguous of [false, true]) {
    const isOf = ({ channel = "" }: { readonly channel?: string }): boolean =>
      contiguous.includes(channel) === isContiguous;
    const options = {
      complete: true,
      fold: false,
      sink: false,
      log: { ...DEDUPE, isWhole: true, contiguous: isContiguous, events: log.events.filter(isOf) },
    };
    found.push(
      ...checkHistory({ messages: sent.filter(isOf), attempts: attempts.filter(isOf), deliveries: [] }, options),
    );
  }
  for (const { rule, conversation, detail } of found)
    yield { rule: AS[INVARIANT_OF[rule]]!, where: conversation, detail: `${rule}: ${detail}` };
}

/** Ids are known for longer than any run lasts in which they come again. */
const DEDUPE = { dedupeMs: 20_000, dedupeMax: 4_096 };

function namesIn(
  conversations: SimulatedHistory["conversations"],
  { conversation }: { readonly conversation: string },
): { readonly kind: "message"; readonly bot: string; readonly channel: string; readonly conversation: string } {
  return { kind: "message", ...conversations.get(conversation)! };
}

// --- the view of one conversation ---------------------------------------------------------------------------------------

interface RecordAt extends CommittedRecord {
  readonly at: number;
}

interface ConversationView {
  readonly name: string;
  readonly messages: ReadonlyMap<string, SentMessage>;
  readonly requests: readonly SentRequest[];
  readonly deliveries: readonly ReceivedDelivery[];
  /** As commits wrote it, in order. */
  readonly written: readonly RecordAt[];
  readonly final: CommittedRecord | undefined;
  /** As commits made them, in order. */
  readonly committed: readonly (CommittedReply & { readonly at: number })[];
  readonly lines: readonly string[];
  /** Ids of messages that are dead letters, or wait. */
  readonly elsewhere: ReadonlySet<string>;
  /** Ids of messages that a commit set aside, also such as came back. */
  readonly diedOnce: ReadonlySet<string>;
  readonly isOrdered: boolean;
  /** When a commit set the reply aside. */
  readonly deadAt: ReadonlyMap<number, number>;
  readonly undelivered: ReadonlySet<number>;
  /** Those that came back from the dead letters: they stand behind all that waited then. */
  readonly redriven: ReadonlySet<number>;
  /** The reply at which its lane is halted. */
  readonly haltedAt: number | null;
  /** What the stored state says was consumed: names and the results of steps. */
  readonly seen: readonly { readonly name: string; readonly results: readonly number[] }[];
  readonly isTranscribed: boolean;
  readonly transcript: readonly string[];
}

function conversationsOf(history: SimulatedHistory): ConversationView[] {
  const names = new Set([
    ...history.messages.map(({ conversation }) => conversation),
    ...history.sends.map(({ conversation }) => conversation),
    ...history.final.records.map(({ conversation }) => conversation),
    ...history.deliveries.map(({ conversation }) => conversation),
  ]);
  const of = <Item extends { readonly conversation: string }>(items: Iterable<Item>): Map<string, Item[]> => {
    const groups = new Map<string, Item[]>();
    for (const item of items) {
      const group = groups.get(item.conversation);
      if (group === undefined) groups.set(item.conversation, [item]);
      else group.push(item);
    }
    return groups;
  };
  const messages = of<SentMessage>([...history.messages, ...history.sends]);
  const committed = of(history.commits.flatMap(({ at, replies: all }) => all.map((reply) => ({ ...reply, at }))));
  const lines = of(history.commits.flatMap(({ lines: all }) => all));
  const deadMessages = of(history.final.deadMessages);
  const waiting = of(history.final.waiting);
  const died = of(history.commits.flatMap(({ deadMessages: all }) => all));
  const requests = of(history.requests);
  const received = of(history.deliveries);
  const written = of(history.commits.flatMap(({ at, records: all }) => all.map((record) => ({ ...record, at }))));
  const dead = of(history.commits.flatMap(({ at, dead: all }) => all.map((each) => ({ ...each, at }))));
  const undelivered = of(history.final.undelivered);
  const redriven = of(history.commits.flatMap((commit) => commit.redriven));
  return [...names].map((name) => {
    const final = history.final.records.find(({ conversation }) => conversation === name);
    return {
      name,
      messages: new Map((messages.get(name) ?? []).map((message) => [message.id, message])),
      requests: requests.get(name) ?? [],
      deliveries: received.get(name) ?? [],
      written: written.get(name) ?? [],
      final,
      committed: committed.get(name) ?? [],
      lines: (lines.get(name) ?? []).map(({ line }) => line),
      elsewhere: new Set([...(deadMessages.get(name) ?? []), ...(waiting.get(name) ?? [])].map(({ id }) => id)),
      diedOnce: new Set((died.get(name) ?? []).map(({ id }) => id)),
      isOrdered: history.ordered.includes(history.conversations.get(name)?.channel ?? ""),
      deadAt: new Map((dead.get(name) ?? []).map(({ sequence, at }) => [sequence, at] as const).reverse()), // the first time
      redriven: new Set((redriven.get(name) ?? []).map(({ sequence }) => sequence)),
      undelivered: new Set((undelivered.get(name) ?? []).map(({ sequence }) => sequence)),
      haltedAt: history.final.haltedLanes.find(({ conversation }) => conversation === name)?.sequence ?? null,
      seen: (trailOf(final)?.seen ?? []).map(parseSeen),
      isTranscribed: history.transcribed.includes(name),
      transcript: history.final.transcripts.find(({ conversation }) => conversation === name)?.lines ?? [],
    };
  });
}

function trailOf(record: CommittedRecord | undefined): Trail | undefined {
  if (record === undefined) return undefined;
  try {
    const trail = JSON.parse(record.stateJson) as Trail;
    return Array.isArray(trail.seen) ? trail : undefined;
  } catch {
    return undefined;
  }
}

/** The way that the conversation must have gone, if it consumed what it says: after each turn, with its replies and sends. */
interface Way {
  readonly turns: readonly {
    readonly name: string;
    readonly state: Trail;
    readonly claims: readonly TrailClaim[];
    readonly sends: readonly TrailSend[];
    readonly results: readonly number[];
  }[];
}

function wayOf({ name: conversation, seen, messages }: ConversationView): Way {
  let state = TRAIL_START;
  const turns = seen.map(({ name, results }) => {
    const text = name.startsWith("!") ? "" : (messages.get(idOf(name))?.text ?? "");
    const turn = walk(state, { name, text }, results, `${conversation} ${name}`);
    state = turn.state;
    return { name, ...turn, results };
  });
  return { turns };
}

// --- the rules ----------------------------------------------------------------------------------------------------------

function* consumption({ name, seen, messages, requests, elsewhere }: ConversationView): Iterable<Violation> {
  const consumed = new Set<string>();
  for (const { name: entry } of seen) {
    if (entry.startsWith("!")) continue;
    const id = idOf(entry);
    if (consumed.has(id)) yield { rule: "doubled", where: name, detail: `${entry} was consumed twice` };
    if (!messages.has(id)) yield { rule: "phantom", where: name, detail: `${entry} was never sent` };
    consumed.add(id);
  }
  for (const { ids, ackedAt } of requests) {
    for (const id of ids) {
      if (ackedAt !== null && !consumed.has(id) && !elsewhere.has(id))
        yield { rule: "lost", where: name, detail: `${id} was acknowledged at ${ackedAt} and never consumed` };
    }
  }
}

/** From the end: the earliest acknowledgement among all that was consumed later must not be before this one's first sending. */
function* order({ name, seen, requests }: ConversationView): Iterable<Violation> {
  const requestOf = new Map(requests.flatMap((request) => request.ids.map((id) => [id, request] as const)));
  const ids = seen.map(({ name: entry }) => entry);
  const place = new Map(ids.map((id, i) => [id, i]));
  for (const request of requests) {
    const places = request.ids.map((id) => place.get(id)).filter((at) => at !== undefined);
    if (places.some((at, i) => i > 0 && at < places[i - 1]!))
      yield {
        rule: "order",
        where: name,
        detail: `${request.ids.join(", ")} of one request were consumed in another order`,
      };
  }
  let earliest: { id: string; ackedAt: number } | null = null;
  for (const id of ids.toReversed()) {
    const request = requestOf.get(id);
    if (request === undefined) continue;
    if (earliest !== null && earliest.ackedAt < request.firstSentAt) {
      const detail = `${earliest.id} was acknowledged at ${earliest.ackedAt}, before ${id} was sent at ${request.firstSentAt}, and consumed after it`;
      yield { rule: "order", where: name, detail };
    }
    const ackedAt = request.ackedAt ?? Number.POSITIVE_INFINITY;
    if (earliest === null || ackedAt < earliest.ackedAt) earliest = { id, ackedAt };
  }
}

/** P5 at every moment: each record that a commit wrote, and the one that is stored. Its chain is a matter of the log. */
function* records(view: ConversationView, way: Way): Iterable<Violation> {
  const { name, written, final, committed, lines } = view;
  if (final === undefined) {
    if (written.length > 0) yield { rule: "state", where: name, detail: "its record is gone" };
    return;
  }
  let lastSeq = 0;
  for (const record of [...written, { ...final, at: Number.POSITIVE_INFINITY }]) {
    const state = record.seq === 0 ? TRAIL_START : way.turns[record.seq - 1]?.state;
    const wrong = [
      record.seq < lastSeq && `seq fell from ${lastSeq}`,
      record.born !== final.born && `born changed from ${record.born} to ${final.born}`,
      state === undefined && "it counts turns that the stored state does not have",
      state !== undefined && record.stateJson !== JSON.stringify(state) && "its state is not the fold",
    ].filter((what) => what !== false);
    if (wrong.length > 0)
      yield { rule: "state", where: name, detail: `record ${record.seq} at ${record.at}: ${wrong.join("; ")}` };
    lastSeq = Math.max(lastSeq, record.seq);
  }
  const count = view.isTranscribed ? lines.filter((line) => lineOf(line).role === "bot").length : committed.length;
  if (final.outSeq !== count)
    yield { rule: "state", where: name, detail: `outSeq is ${final.outSeq}, and ${count} replies were committed` };
}

interface Line {
  readonly role: "user" | "bot";
  readonly sequence: number;
  readonly messageId?: string;
  readonly inReplyTo: string | null;
  readonly text: string;
  readonly born: string;
}

const lineOf = (line: string): Line => JSON.parse(line) as Line;

/**
 * Committed replies, in their order: those of each turn whole and one after the other. Others are of turns that said something in
 * their middle and never ended well.
 */
function* replies(
  { name, committed, lines, isTranscribed, elsewhere }: ConversationView,
  { turns }: Way,
): Iterable<Violation> {
  const said = isTranscribed
    ? lines.map(lineOf).filter(({ role }) => role === "bot")
    : committed.map(({ sequence, body }) => ({ sequence, ...(JSON.parse(body) as Pick<Line, "text" | "inReplyTo">) }));
  const counts = turns.map(() => 0);
  const unended = new Map<string, number>();
  let lastTurn = 0;
  for (const [i, { sequence, text, inReplyTo }] of said.entries()) {
    const claim = JSON.parse(text) as TrailClaim;
    const where = `${name} reply ${sequence}`;
    const isNotice = claim.mid.startsWith("!");
    const turn = turns[claim.n - 1];
    if (sequence !== i + 1) yield { rule: "reply", where, detail: `it is committed as number ${i + 1}` };
    if (inReplyTo !== (isNotice ? null : idOf(claim.mid)))
      yield { rule: "reply", where, detail: `it answers ${inReplyTo}, not ${claim.mid}` };
    if (turn?.name !== claim.mid) {
      const before = unended.get(`${claim.n} ${claim.mid}`) ?? 0;
      unended.set(`${claim.n} ${claim.mid}`, before + 1);
      if (claim.j !== before + 1) yield { rule: "reply", where, detail: `part ${claim.j} came after part ${before}` };
      if (!isNotice && !elsewhere.has(idOf(claim.mid)) && !turns.some((each) => idOf(each.name) === idOf(claim.mid)))
        yield { rule: "reply", where, detail: `no turn of ${claim.mid} replied ${text}` };
      continue;
    }
    const expected = turn.claims[counts[claim.n - 1]!];
    counts[claim.n - 1]! += 1;
    if (text !== JSON.stringify(expected))
      yield { rule: "reply", where, detail: `${text} is not ${JSON.stringify(expected)}` };
    if (claim.n < lastTurn) yield { rule: "reply", where, detail: `turn ${claim.n} replied after turn ${lastTurn}` };
    lastTurn = claim.n;
  }
  for (const [i, { claims }] of turns.entries()) {
    if (counts[i] === claims.length) continue;
    yield {
      rule: "reply",
      where: name,
      detail: `of ${claims.length} replies of turn ${i + 1} ${counts[i]} were committed`,
    };
  }
}

interface ReplyView {
  readonly attempts: ReceivedDelivery[];
  readonly acceptedAt: number | null;
}

function* deliveries(view: ConversationView): Iterable<Violation> {
  const { name, deadAt, undelivered, haltedAt, redriven, committed } = view;
  const received = new Map<number, ReplyView>();
  for (const delivery of view.deliveries) {
    const known = received.get(delivery.sequence) ?? { attempts: [], acceptedAt: null };
    const acceptedAt = known.acceptedAt ?? (delivery.isAccepted ? delivery.at : null);
    received.set(delivery.sequence, { attempts: [...known.attempts, delivery], acceptedAt });
  }
  /** When the reply before was out of the way. */
  let clearAt = Number.NEGATIVE_INFINITY;
  for (let sequence = 1; sequence <= Math.max(committed.length, ...received.keys()); sequence += 1) {
    const reply = received.get(sequence);
    const stored = committed[sequence - 1];
    const first = reply?.attempts[0];
    const where = `${name} reply ${sequence}`;
    if (first !== undefined) {
      if (first.body !== stored?.body)
        yield { rule: "reply", where, detail: `${first.body} is not ${stored?.body}, which was committed` };
      if (first.at <= (stored?.at ?? Number.POSITIVE_INFINITY))
        yield { rule: "early", where, detail: `received at ${first.at}, committed at ${stored?.at}` };
      if (first.at <= clearAt)
        yield { rule: "delivery", where, detail: `received at ${first.at}, the one before was done at ${clearAt}` };
    }
    const doneAt = Math.min(
      reply?.acceptedAt ?? Number.POSITIVE_INFINITY,
      deadAt.get(sequence) ?? Number.POSITIVE_INFINITY,
    );
    const isHalted = haltedAt !== null && (sequence >= haltedAt || redriven.has(sequence));
    if (doneAt === Number.POSITIVE_INFINITY && !(isHalted && undelivered.has(sequence)))
      yield { rule: "stuck", where, detail: "it was neither delivered nor set aside, nor does it wait at a halt" };
    if (!isHalted && undelivered.has(sequence)) yield { rule: "stuck", where, detail: "it is still in the outbox" };
    clearAt = Math.max(clearAt, doneAt);
  }
}

function* transcript({ name, messages, final, lines, ...view }: ConversationView, { turns }: Way): Iterable<Violation> {
  const first = lines.findIndex((line, i) => view.transcript[i] !== line);
  if (first >= 0 || view.transcript.length !== lines.length) {
    const at = first >= 0 ? first : lines.length;
    const detail = `line ${at + 1} of ${lines.length} is ${view.transcript[at]}, not ${lines[at]}, which was committed`;
    yield { rule: "transcript", where: name, detail };
  }
  const expected = turns.flatMap(({ name: entry }, i) => {
    const messageId = idOf(entry);
    const text = messages.get(messageId)?.text;
    const line = { role: "user", sequence: i + 1, messageId, inReplyTo: null, born: final?.born, text };
    return entry.startsWith("!") ? [] : [JSON.stringify(line)];
  });
  const users = lines.filter((line) => lineOf(line).role === "user");
  const isUnended = (line: string): boolean => view.diedOnce.has(lineOf(line).messageId!) && !expected.includes(line);
  const ended = users.filter((line) => !isUnended(line));
  const wrong = expected.findIndex((line, i) => ended[i] !== line);
  if (wrong >= 0 || ended.length !== expected.length) {
    const at = wrong >= 0 ? wrong : expected.length;
    yield {
      rule: "transcript",
      where: name,
      detail: `message ${at + 1} stands there as ${ended[at]}, not as ${expected[at]}`,
    };
  }
  let about: string | null = null;
  for (const line of lines) {
    const { role, messageId, inReplyTo } = lineOf(line);
    if (role === "user") about = messageId!;
    else if (inReplyTo !== null && inReplyTo !== about)
      yield { rule: "transcript", where: name, detail: `${line} stands behind message ${about}` };
  }
  if (view.deliveries.length > 0) yield { rule: "reply", where: name, detail: "a reply of the transcript was sent" };
}

/** P1 to P3 between conversations: what each committed turn sent came in once, and in the order of its turns. */
function* sends(arrived: readonly ArrivedSend[], ways: ReadonlyMap<string, Way>): Iterable<Violation> {
  const expected = new Map<string, string[]>();
  for (const [from, { turns }] of ways) {
    for (const { bot, conversation, text } of turns.flatMap((turn) => turn.sends)) {
      const lane = `${from} to ${bot} ${conversation}`;
      expected.set(lane, [...(expected.get(lane) ?? []), text]);
    }
  }
  const came = new Map<string, string[]>();
  for (const { from, conversation, text } of arrived) {
    const [bot, , name] = conversation.split(" ");
    const lane = `${from} to ${bot} ${name}`;
    came.set(lane, [...(came.get(lane) ?? []), text]);
  }
  for (const lane of new Set([...expected.keys(), ...came.keys()])) {
    const [wanted, found] = [expected.get(lane) ?? [], came.get(lane) ?? []];
    for (const text of wanted)
      if (!found.includes(text)) yield { rule: "lost", where: lane, detail: `${text} never came` };
    for (const [i, text] of found.entries()) {
      if (!wanted.includes(text)) yield { rule: "phantom", where: lane, detail: `no turn sent ${text}` };
      if (found.indexOf(text) < i) yield { rule: "doubled", where: lane, detail: `${text} came twice` };
    }
    const isEqual = wanted.length === found.length && wanted.every((text) => found.includes(text));
    if (isEqual && wanted.some((text, i) => found[i] !== text))
      yield { rule: "order", where: lane, detail: `${found.join(", ")} were sent as ${wanted.join(", ")}` };
  }
}

/** P2 in the world outside. */
function* effects(history: SimulatedHistory, ways: ReadonlyMap<string, Way>): Iterable<Violation> {
  const byNumber = new Map(history.effects.map((effect) => [effect.number, effect]));
  for (const [conversation, { turns }] of ways) {
    for (const { name, results } of turns) {
      for (const [step, number] of results.entries()) {
        const effect = byNumber.get(number);
        if (effect?.conversation === conversation && effect.consumed === name && effect.step === step) continue;
        yield { rule: "effect", where: conversation, detail: `step ${step} of ${name} goes by the result ${number}` };
      }
    }
  }
  const keys = new Map<string, Effect>();
  for (const effect of history.effects) {
    const { key, conversation, turn, step } = effect;
    const owner = keys.get(key) ?? effect;
    keys.set(key, owner);
    if (owner.conversation === conversation && owner.turn === turn && owner.step === step) continue;
    const detail = `step ${step} of ${effect.consumed} has the key ${key}, as has step ${owner.step} of ${owner.consumed}`;
    yield { rule: "effect", where: conversation, detail };
  }
  yield* repeatedEffects(history, byNumber);
}

/**
 * Of an owner that has committed: a process that does not know yet that it lost the shard may begin what its successor has done, and so
 * may what is left of an earlier ownership in the same process. And own code that crashes may do so between an effect and its journal.
 */
function* repeatedEffects(
  { effects: all, commits, acquisitions, shards, log, sabotaged }: SimulatedHistory,
  byNumber: ReadonlyMap<number, Effect>,
): Iterable<Violation> {
  const nameOf = ({ conversation, turn, step }: Effect): string => `${conversation} ${turn} ${step}`;
  const journaledAt = new Map<string, number>();
  for (const { at, records: written } of commits) {
    for (const number of written.flatMap(({ journal }) => journal)) {
      const effect = byNumber.get(number);
      if (effect && !journaledAt.has(nameOf(effect))) journaledAt.set(nameOf(effect), at);
    }
  }
  const firstCommits = new Map<string, number>();
  for (const { shard, epoch, n, at } of commits) if (n === 1) firstCommits.set(`${shard} ${epoch}`, at);
  /** By an operator, which gives up a step that is under way: it may be what hangs. */
  const wasRetried = (before: Effect, effect: Effect): boolean =>
    log.events.some(
      (event) =>
        event.kind === "signal" &&
        event.halt !== undefined &&
        `${event.bot} ${event.channel} ${event.conversation}` === effect.conversation &&
        event.at < Math.max(before.begunAt, effect.begunAt), // one may mean an earlier halt at the same message
    );
  const made = new Map<string, Effect>();
  for (const effect of all) {
    const [bot, channel, conversation] = effect.conversation.split(" ") as [string, string, string];
    const shard = shardOf(conversationKey({ bot, channel, conversation }), shards);
    const owner = acquisitions.findLast((acquired) => acquired.shard === shard && acquired.at < effect.begunAt);
    const hasCommitted = (epoch: number): boolean =>
      (firstCommits.get(`${shard} ${epoch}`) ?? Infinity) < effect.begunAt;
    if (owner?.by !== effect.by || !hasCommitted(owner.epoch) || sabotaged.includes(effect.by)) continue;
    const where = effect.conversation;
    const name = nameOf(effect);
    const at = journaledAt.get(name) ?? Number.POSITIVE_INFINITY;
    if (at < effect.begunAt) {
      const detail = `step ${effect.step} of ${effect.consumed} was begun at ${effect.begunAt}, its result was journaled at ${at}`;
      yield { rule: "effect", where, detail };
    }
    const before = made.get(`${name} ${owner.epoch}`);
    if (before !== undefined && !wasRetried(before, effect)) {
      const detail = `step ${effect.step} of ${effect.consumed} was made at ${before.at} and again at ${effect.at} by ${effect.by}`;
      yield { rule: "effect", where, detail };
    }
    made.set(`${name} ${owner.epoch}`, effect);
  }
}

function sharedKeys(all: readonly ReceivedDelivery[]): Violation[] {
  const owners = new Map<string, ReceivedDelivery>();
  const keys = new Map<string, string>();
  const violations: Violation[] = [];
  for (const delivery of all) {
    const { key, conversation, sequence, body } = delivery;
    const owner = owners.get(key) ?? delivery;
    owners.set(key, owner);
    if (owner.conversation !== conversation || owner.sequence !== sequence || owner.body !== body)
      violations.push({ rule: "bytes", where: conversation, detail: `${key} came as ${owner.body} and as ${body}` });
    const name = `${conversation} ${sequence}`;
    if ((keys.get(name) ?? key) !== key)
      violations.push({ rule: "bytes", where: name, detail: `it came as ${keys.get(name)} and as ${key}` });
    keys.set(name, key);
  }
  return violations;
}

/** P1: what a commit set aside stays to be seen, each once, unless it came back. */
function* deadLetters({ commits, final }: SimulatedHistory): Iterable<Violation> {
  const left = new Map<string, number>();
  for (const { conversation, sequence } of [...final.dead, ...commits.flatMap(({ redriven }) => redriven)]) {
    const name = `${conversation} reply ${sequence}`;
    left.set(name, (left.get(name) ?? 0) + 1);
  }
  for (const { conversation, sequence } of commits.flatMap(({ dead }) => dead)) {
    const name = `${conversation} reply ${sequence}`;
    const count = left.get(name) ?? 0;
    if (count === 0) yield { rule: "lost", where: name, detail: "it was set aside and is not among the dead letters" };
    left.set(name, count - 1);
  }
  for (const [where, count] of left)
    if (count > 0) yield { rule: "phantom", where, detail: "it is among the dead letters, and no commit set it aside" };
}

/** P6: epochs are held one after the other, each by one life, and within one the numbers leave no gap. */
function* fenced({ commits, acquisitions }: SimulatedHistory): Iterable<Violation> {
  const marks = [
    ...acquisitions.map((acquired) => ({ ...acquired, n: 0 })),
    ...commits.map(({ at, shard, epoch, n, by }: AppliedCommit) => ({ at, shard, epoch, n, by })),
  ].sort((a, b) => a.at - b.at || a.n - b.n);
  const held = new Map<number, { epoch: number; by: string; n: number }>();
  for (const { at, shard, epoch, n, by } of marks) {
    const now = held.get(shard) ?? { epoch: 0, by: "", n: 0 };
    const where = `shard ${shard} at ${at}`;
    if (n === 0) {
      if (epoch !== now.epoch + 1)
        yield { rule: "fence", where, detail: `epoch ${epoch} was taken after ${now.epoch}` };
      held.set(shard, { epoch, by, n: 0 });
      continue;
    }
    if (epoch !== now.epoch || by !== now.by)
      yield { rule: "fence", where, detail: `${by} committed under epoch ${epoch}, while ${now.by} held ${now.epoch}` };
    else if (n !== now.n + 1) yield { rule: "fence", where, detail: `commit ${n} came after ${now.n}` };
    held.set(shard, { ...now, n });
  }
}

function* duels({ acquisitions, mendedAt }: SimulatedHistory): Iterable<Violation> {
  const counts = new Map<number, number>();
  for (const { at, shard } of acquisitions) if (at > mendedAt) counts.set(shard, (counts.get(shard) ?? 0) + 1);
  for (const [shard, count] of counts) {
    if (count > CALM_ACQUISITIONS_MAX)
      yield { rule: "duel", where: `shard ${shard}`, detail: `it was taken ${count} times after ${mendedAt}` };
  }
}

/** As a few lines of text. */
export function formatViolations(violations: readonly Violation[], countMax = 8): string {
  const lines = violations.slice(0, countMax).map(({ rule, where, detail }) => `  ${rule} in ${where}: ${detail}`);
  const rest = violations.length - lines.length;
  return [...lines, ...(rest > 0 ? [`  and ${rest} more`] : [])].join("\n");
}
