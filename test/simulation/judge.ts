// Judge: was the promise kept in a simulated run? Pure; it knows the trail bot and what a record's `chain` is, nothing else of the
// runtime, and takes no node's word for anything.
//
// Rules, by the invariant that they attack
//   P1  lost          an acknowledged message was consumed by no turn, or a reply that was set aside is not among the dead letters
//       stuck         something waits at the end although nothing fails any more, or a reply was neither delivered nor set aside
//   P2  doubled       a message was consumed twice
//       phantom       a message was consumed that nobody sent
//   P3  order         messages of one request, or one sent after another was acknowledged, were consumed in another order
//   P4  early         a reply left before the commit that contains it
//       bytes         one idempotency key came with two bodies, or two replies share a key
//       delivery      a reply was attempted before the one before it was accepted or set aside by a commit
//       reply         a reply is not what its turn replied
//       transcript    a transcript is not what the turns consumed and replied, each line once and in order
//   P5  state         a stored record is not what the turns up to it made of it: state, seq, outSeq, chain, born
//   P6  fence         a commit was applied under an epoch that was over, or not that of who sent it; numbers have a gap
//       duel          processes took a shard from each other again and again although nothing failed any more
//   -   alarm         the runtime said what it should never have to say

import { halfSipHash64 } from "../../src/domain/hash.ts";
import { nextChain } from "../../src/domain/record.ts";
import type {
  AppliedCommit,
  CommittedRecord,
  ReceivedDelivery,
  SentMessage,
  SentRequest,
  SimulatedHistory,
} from "./history.ts";
import { TRAIL_START, type Trail, type TrailClaim, walk } from "./trail-bot.ts";

export type Rule =
  | "lost"
  | "stuck"
  | "doubled"
  | "phantom"
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
  if (history.final.inboxEntries > 0)
    violations.push({ rule: "stuck", where: "inbox", detail: `${history.final.inboxEntries} entries are left` });
  for (const { conversation, sequence } of history.final.retryingLanes) {
    const where = `${conversation} reply ${sequence}`;
    violations.push({ rule: "stuck", where, detail: "its lane is to try it again, when nothing fails any more" });
  }
  for (const conversation of conversationsOf(history)) {
    const way = wayOf(conversation);
    violations.push(...consumption(conversation, way));
    violations.push(...order(conversation));
    violations.push(...records(conversation, way, history));
    violations.push(...(conversation.isTranscribed ? transcript(conversation, way) : deliveries(conversation, way)));
  }
  return violations;
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
  /** When a commit set the reply aside. */
  readonly deadAt: ReadonlyMap<number, number>;
  readonly undelivered: ReadonlySet<number>;
  /** The reply at which its lane is halted. */
  readonly haltedAt: number | null;
  /** What the stored state says was consumed. */
  readonly seen: readonly string[];
  readonly isTranscribed: boolean;
  readonly transcript: readonly string[];
}

function conversationsOf(history: SimulatedHistory): ConversationView[] {
  const names = new Set([
    ...history.messages.map(({ conversation }) => conversation),
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
  const messages = of(history.messages);
  const requests = of(history.requests);
  const received = of(history.deliveries);
  const written = of(history.commits.flatMap(({ at, records: all }) => all.map((record) => ({ ...record, at }))));
  const dead = of(history.commits.flatMap(({ at, dead: all }) => all.map((each) => ({ ...each, at }))));
  const undelivered = of(history.final.undelivered);
  return [...names].map((name) => {
    const final = history.final.records.find(({ conversation }) => conversation === name);
    return {
      name,
      messages: new Map((messages.get(name) ?? []).map((message) => [message.id, message])),
      requests: requests.get(name) ?? [],
      deliveries: received.get(name) ?? [],
      written: written.get(name) ?? [],
      final,
      deadAt: new Map((dead.get(name) ?? []).map(({ sequence, at }) => [sequence, at])),
      undelivered: new Set((undelivered.get(name) ?? []).map(({ sequence }) => sequence)),
      haltedAt: history.final.haltedLanes.find(({ conversation }) => conversation === name)?.sequence ?? null,
      seen: trailOf(final)?.seen ?? [],
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

/** The way that the conversation must have gone, if it consumed what it says: after each turn, and all replies in order. */
interface Way {
  readonly after: readonly { readonly state: Trail; readonly outSeq: number }[];
  readonly claims: readonly TrailClaim[];
}

function wayOf({ seen, messages }: ConversationView): Way {
  const after: { state: Trail; outSeq: number }[] = [];
  const claims: TrailClaim[] = [];
  let state = TRAIL_START;
  for (const id of seen) {
    const turn = walk(state, { id, text: messages.get(id)?.text ?? "" });
    state = turn.state;
    claims.push(...turn.claims);
    after.push({ state, outSeq: claims.length });
  }
  return { after, claims };
}

// --- the rules ----------------------------------------------------------------------------------------------------------

function* consumption({ name, seen, messages, requests }: ConversationView, _way: Way): Iterable<Violation> {
  const consumed = new Set<string>();
  for (const id of seen) {
    if (consumed.has(id)) yield { rule: "doubled", where: name, detail: `${id} was consumed twice` };
    if (!messages.has(id)) yield { rule: "phantom", where: name, detail: `${id} was never sent` };
    consumed.add(id);
  }
  for (const { ids, ackedAt } of requests) {
    for (const id of ids) {
      if (ackedAt !== null && !consumed.has(id))
        yield { rule: "lost", where: name, detail: `${id} was acknowledged at ${ackedAt} and never consumed` };
    }
  }
}

/** From the end: the earliest acknowledgement among all that was consumed later must not be before this one's first sending. */
function* order({ name, seen, requests }: ConversationView): Iterable<Violation> {
  const requestOf = new Map(requests.flatMap((request) => request.ids.map((id) => [id, request] as const)));
  const place = new Map(seen.map((id, i) => [id, i]));
  for (const { ids } of requests) {
    const places = ids.map((id) => place.get(id)).filter((at) => at !== undefined);
    if (places.some((at, i) => i > 0 && at < places[i - 1]!))
      yield { rule: "order", where: name, detail: `${ids.join(", ")} of one request were consumed in another order` };
  }
  let earliest: { id: string; ackedAt: number } | null = null;
  for (const id of [...seen].reverse()) {
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

/** P5 at every moment: each record that a commit wrote, and the one that is stored. */
function* records(view: ConversationView, way: Way, { hashKey }: SimulatedHistory): Iterable<Violation> {
  const { name, written, final, seen } = view;
  if (final === undefined) {
    if (written.length > 0) yield { rule: "state", where: name, detail: "its record is gone" };
    return;
  }
  const chains = [{ lo: 0, hi: 0 }];
  for (const id of seen) chains.push(nextChain(chains.at(-1)!, halfSipHash64(hashKey, Buffer.from(id)), "turn"));
  let lastSeq = 0;
  for (const record of [...written, { ...final, at: Number.POSITIVE_INFINITY }]) {
    const expected = record.seq === 0 ? { state: TRAIL_START, outSeq: 0 } : way.after[record.seq - 1];
    const chain = chains[record.seq];
    const wrong = [
      record.seq < lastSeq && `seq fell from ${lastSeq}`,
      record.born !== final.born && `born changed from ${record.born} to ${final.born}`,
      expected === undefined && "it counts turns that the stored state does not have",
      expected !== undefined && record.stateJson !== JSON.stringify(expected.state) && "its state is not the fold",
      expected !== undefined &&
        record.outSeq !== expected.outSeq &&
        `outSeq is ${record.outSeq}, not ${expected.outSeq}`,
      chain !== undefined && (chain.lo !== record.chain.lo || chain.hi !== record.chain.hi) && "its chain is another",
    ].filter((what) => what !== false);
    if (wrong.length > 0)
      yield { rule: "state", where: name, detail: `record ${record.seq} at ${record.at}: ${wrong.join("; ")}` };
    lastSeq = Math.max(lastSeq, record.seq);
  }
}

interface ReplyView {
  readonly attempts: ReceivedDelivery[];
  readonly acceptedAt: number | null;
}

function* deliveries(view: ConversationView, way: Way): Iterable<Violation> {
  const { name, deadAt, undelivered, haltedAt, written } = view;
  const replies = new Map<number, ReplyView>();
  for (const delivery of view.deliveries) {
    const known = replies.get(delivery.sequence) ?? { attempts: [], acceptedAt: null };
    const acceptedAt = known.acceptedAt ?? (delivery.isAccepted ? delivery.at : null);
    replies.set(delivery.sequence, { attempts: [...known.attempts, delivery], acceptedAt });
  }
  let at = 0;
  const committedAt = (sequence: number): number => {
    while (at < written.length && written[at]!.outSeq < sequence) at += 1;
    return written[at]?.at ?? Number.POSITIVE_INFINITY;
  };
  /** When the reply before was out of the way. */
  let clearAt = Number.NEGATIVE_INFINITY;
  for (let sequence = 1; sequence <= Math.max(way.claims.length, ...replies.keys()); sequence += 1) {
    const reply = replies.get(sequence);
    const claim = way.claims[sequence - 1];
    const first = reply?.attempts[0];
    const where = `${name} reply ${sequence}`;
    if (first !== undefined) {
      const said = JSON.parse(first.body) as { readonly text: string; readonly inReplyTo: string };
      if (claim === undefined || said.text !== JSON.stringify(claim) || said.inReplyTo !== claim.mid)
        yield { rule: "reply", where, detail: `${first.body} is not ${JSON.stringify(claim)}` };
      if (first.at <= committedAt(sequence))
        yield { rule: "early", where, detail: `received at ${first.at}, committed at ${committedAt(sequence)}` };
      if (first.at <= clearAt)
        yield { rule: "delivery", where, detail: `received at ${first.at}, the one before was done at ${clearAt}` };
    }
    const doneAt = Math.min(
      reply?.acceptedAt ?? Number.POSITIVE_INFINITY,
      deadAt.get(sequence) ?? Number.POSITIVE_INFINITY,
    );
    const isHalted = haltedAt !== null && sequence >= haltedAt;
    if (doneAt === Number.POSITIVE_INFINITY && !(isHalted && undelivered.has(sequence)))
      yield { rule: "stuck", where, detail: "it was neither delivered nor set aside, nor does it wait at a halt" };
    if (!isHalted && undelivered.has(sequence)) yield { rule: "stuck", where, detail: "it is still in the outbox" };
    clearAt = Math.max(clearAt, doneAt);
  }
}

function* transcript({ name, seen, messages, final, ...view }: ConversationView, { claims }: Way): Iterable<Violation> {
  const born = final?.born;
  const expected = seen.flatMap((messageId, i) => [
    { role: "user", sequence: i + 1, messageId, inReplyTo: null, born, text: messages.get(messageId)?.text },
    ...claims.flatMap((claim, j) =>
      claim.n === i + 1
        ? [{ role: "bot", sequence: j + 1, inReplyTo: messageId, born, text: JSON.stringify(claim) }]
        : [],
    ),
  ]);
  const first = expected.findIndex((line, i) => view.transcript[i] !== JSON.stringify(line));
  if (first >= 0 || view.transcript.length !== expected.length) {
    const at = first >= 0 ? first : expected.length;
    const detail = `line ${at + 1} of ${expected.length} is ${view.transcript[at]}, not ${JSON.stringify(expected[at])}`;
    yield { rule: "transcript", where: name, detail };
  }
  if (view.deliveries.length > 0) yield { rule: "reply", where: name, detail: "a reply of the transcript was sent" };
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

/** P1: what a commit set aside stays to be seen, each once. */
function* deadLetters({ commits, final }: SimulatedHistory): Iterable<Violation> {
  const left = new Map<string, number>();
  for (const { conversation, sequence } of final.dead) {
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
