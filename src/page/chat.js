// @ts-check
// Chat page: shows one conversation of the web channel, sends what is typed, and survives the server.
//
// Invariants
//   P1. A typed message is in this browser's storage before it is sent, and leaves it when its line came back or it was refused.
//       It is repeated under one id until the server says that it is durable, so it counts once however often it arrives.
//   P2. Messages of this tab are sent one after the other, so they are accepted in the order in which they were typed.
//   P3. A line is shown once, by its id; the stream is always resumed after the last line that is shown.
//   P4. Text becomes text nodes only. Of a reply's data nothing is shown but its quick replies.
//   P5. Quick replies answer the newest line: they go as soon as anything is said after it.

import { quickReplies } from "./quick-replies.js";

/**
 * A line of the transcript, as the event stream gives it.
 * @typedef {{
 *   id: string, role: "user" | "bot", sequence: number, messageId?: string, inReplyTo: string | null, text: string,
 *   data?: unknown,
 * }} Line
 * @typedef {"sending" | "durable" | "refused"} MessageState
 * @typedef {{ id: string, text: string, atMs: number, state: MessageState }} StoredMessage
 * @typedef {StoredMessage & { note?: string | undefined, element: HTMLElement, notBeforeMs: number }} PendingMessage
 * @typedef {{
 *   seq: number, outSeq: number, cursor: { entry: string, index: number }, born: string, botVersion: number,
 *   state: unknown,
 * }} ConversationRecord
 * @typedef {"wait" | "up" | "down"} Link
 * @typedef {{ firstMs: number, maxMs: number }} Backoff
 */

const SEND_RETRY = { firstMs: 300, maxMs: 8_000 };
const STREAM_RETRY = { firstMs: 250, maxMs: 4_000 };
const REQUEST_TIMEOUT_MS = 12_000;
/** A connection that died without a word is found by asking this often. */
const ALIVE_EVERY_MS = 10_000;
const ALIVE_TIMEOUT_MS = 5_000;
/** Messages that another tab stored: it sends them itself, and this one only if they are still there after this. */
const OTHER_TAB_MS = 4_000;
/** What an earlier life of this tab left waits for the history, which may hold its line already. */
const RESTORED_MS = 1_000;
/** A durable message whose line never came back is forgotten: the transcript has been cut since. */
const DURABLE_KEPT_MS = 3_600_000;
const LINES_MAX = 1_000;
const RECORD_DELAY_MS = 120;
const HISTORY_QUIET_MS = 500;
/** Offered where nothing was said yet; the bot's own quick replies come with its answer. */
const FIRST_WORDS = ["hello"];

/**
 * @template {HTMLElement} Kind
 * @param {string} id
 * @param {new () => Kind} kind
 * @returns {Kind}
 */
function found(id, kind) {
  const element = document.getElementById(id);
  if (element instanceof kind) return element;
  throw new Error(`the page has no ${kind.name} with the id ${id}`);
}

const page = {
  bot: found("bot", HTMLSelectElement),
  new: found("new", HTMLButtonElement),
  link: found("link", HTMLElement),
  lost: found("lost", HTMLElement),
  scroll: found("scroll", HTMLElement),
  empty: found("empty", HTMLElement),
  log: found("log", HTMLElement),
  pending: found("pending", HTMLElement),
  quick: found("quick", HTMLElement),
  composer: found("composer", HTMLFormElement),
  text: found("text", HTMLTextAreaElement),
  panel: found("panel", HTMLDetailsElement),
  crash: found("crash", HTMLElement),
  kill: found("kill", HTMLElement),
  copy: found("copy", HTMLButtonElement),
  copied: found("copied", HTMLElement),
  conversation: found("conversation", HTMLElement),
  second: found("second", HTMLAnchorElement),
};

/**
 * What is shown now; `switchTo` begins another.
 * @type {Talk | null}
 */
let talk = null;
/** @type {string[]} */
let bots = [];
/**
 * Of the server that answered last, where it tells.
 * @type {number | undefined}
 */
let serverPid;

// --- the conversation in the address --------------------------------------------------------------------------------

function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // a page that is not from localhost or https has no randomUUID
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** `#<bot>/<conversation>`, each percent-encoded. */
function fromAddress() {
  const [bot = "", conversation = ""] = location.hash.slice(1).split("/").map(decoded);
  return { bot: bots.includes(bot) ? bot : (bots[0] ?? ""), conversation };
}

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}

/** @type {(bot: string, conversation: string) => string} */
const addressOf = (bot, conversation) => `#${encodeURIComponent(bot)}/${encodeURIComponent(conversation)}`;

function showAddress() {
  const { bot, conversation } = fromAddress();
  if (talk && talk.bot === bot && talk.conversation === conversation) return;
  const id = conversation || newId();
  history.replaceState(null, "", addressOf(bot, id));
  switchTo(bot, id);
}

/** @type {(bot: string, conversation: string) => void} */
function switchTo(bot, conversation) {
  talk?.close();
  isAtEnd = true;
  page.log.setAttribute("aria-live", "off"); // its history is not read aloud
  page.log.replaceChildren();
  page.pending.replaceChildren();
  showQuickReplies([]);
  page.empty.hidden = false;
  page.bot.value = bot;
  page.conversation.textContent = conversation;
  page.second.href = addressOf(bot, conversation);
  showRecord(null);
  talk = new Talk(bot, conversation);
  talk.open();
}

// --- one conversation -----------------------------------------------------------------------------------------------

class Talk {
  /**
   * @param {string} bot
   * @param {string} conversation
   */
  constructor(bot, conversation) {
    this.bot = bot;
    this.conversation = conversation;
    this.url = `/channels/web/${encodeURIComponent(bot)}`;
    this.lastId = "0-0";
    /**
     * Shown lines: id -> element (P3).
     * @type {Map<string, HTMLElement>}
     */
    this.lines = new Map();
    /**
     * Own messages without a line yet, by message id.
     * @type {Map<string, PendingMessage>}
     */
    this.pending = new Map();
    /**
     * User lines by message id: what a reply answers.
     * @type {Map<string, HTMLElement>}
     */
    this.asked = new Map();
    /**
     * What the newest line offers (P5).
     * @type {string[]}
     */
    this.offered = [];
    /** @type {EventSource | null} */
    this.source = null;
    /** When the connection was lost that has not come back; 0 while there is one, or was none yet. */
    this.lostAtMs = 0;
    /**
     * The mark of the last loss, and when that was.
     * @type {{ element: HTMLElement, atMs: number } | null}
     */
    this.seam = null;
    this.isConnected = false;
    this.isClosed = false;
    this.isSending = false;
    this.isRecordAsked = false;
    this.sendFailures = 0;
    this.streamFailures = 0;
    /** @type {Record<string, ReturnType<typeof setTimeout>>} */
    this.timers = {};
    this.prefix = `colloquy:${bot}/${conversation}/`;
  }

  open() {
    this.restore(RESTORED_MS);
    this.connect();
    this.sendNext();
  }

  close() {
    this.isClosed = true;
    this.source?.close();
    for (const timer of Object.values(this.timers)) clearTimeout(timer);
  }

  /**
   * @param {string} name
   * @param {number} delayMs
   * @param {() => void} run
   */
  after(name, delayMs, run) {
    clearTimeout(this.timers[name]);
    this.timers[name] = setTimeout(() => !this.isClosed && run(), delayMs);
  }

  // the stream

  connect() {
    if (this.isClosed) return;
    this.source?.close();
    const conversation = encodeURIComponent(this.conversation);
    const source = new EventSource(`${this.url}/${conversation}/events?after=${this.lastId}`);
    this.source = source;
    source.addEventListener("open", () => this.connected());
    source.addEventListener("message", (event) => this.line(JSON.parse(event.data)));
    source.addEventListener("error", () => source === this.source && this.disconnected());
  }

  connected() {
    const { lostAtMs } = this;
    this.lostAtMs = 0;
    this.isConnected = true;
    this.streamFailures = 0;
    this.sendFailures = 0;
    showLink("up");
    this.after("history", HISTORY_QUIET_MS, () => this.historyRead());
    this.readRecordSoon();
    this.sendNext();
    void this.readServer(lostAtMs);
  }

  /** What comes from now on is new. */
  historyRead() {
    page.log.setAttribute("aria-live", "polite");
    if (this.lines.size > 0) return;
    this.offered = FIRST_WORDS;
    this.offer();
  }

  /**
   * Learns who answers now. If that is another process than before, the log is marked where the connection was lost.
   * @param {number} lostAtMs 0 if none was lost
   */
  async readServer(lostAtMs) {
    const pidBefore = serverPid;
    const seam = document.createElement("p");
    seam.className = "seam";
    seam.hidden = true;
    if (lostAtMs > 0 && this.lines.size > 0) {
      page.log.append(seam); // now, before the next line comes
      this.seam = { element: seam, atMs: lostAtMs };
    }
    try {
      await readInfo();
    } catch {
      // lost again: the next connection asks
    }
    const isAnother = pidBefore !== undefined && serverPid !== undefined && pidBefore !== serverPid;
    if (!isAnother) return seam.remove();
    seam.textContent = `Process ${pidBefore} ended here, process ${serverPid} went on.`;
    seam.hidden = false;
  }

  /** The browser's own way of coming again differs between browsers, and ends at the first 503. */
  disconnected() {
    this.source?.close();
    this.source = null;
    if (this.isConnected) this.lostAtMs = Date.now();
    this.isConnected = false;
    showLink("down");
    this.after("connect", backoffMs(STREAM_RETRY, this.streamFailures++), () => this.connect());
  }

  /** @param {Line} line */
  line(line) {
    this.lastId = line.id;
    if (this.lines.has(line.id)) return; // P3
    const shown = line.role === "bot" ? this.answerElement(line) : this.questionElement(line);
    this.lines.set(line.id, shown);
    page.log.insertBefore(shown, this.isBeforeSeam(line) ? (this.seam?.element ?? null) : null);
    if (line.role === "user" && line.messageId !== undefined) this.forget(line.messageId);
    this.offered = line.role === "bot" ? quickReplies(line.data) : [];
    this.offer();
    page.empty.hidden = true;
    if (this.lines.size > LINES_MAX) this.dropOldest();
    this.readRecordSoon();
  }

  /** @param {Line} line */
  answerElement({ text, sequence, inReplyTo }) {
    const shown = lineElement("bot", text);
    place(shown, `#${sequence}`, "bot");
    const asked = this.asked.get(inReplyTo ?? "");
    if (asked) {
      place(asked, `#${asked.dataset.sequence} · answered`, "you");
      asked.dataset.state = "answered";
    }
    return shown;
  }

  /** @param {Line} line */
  questionElement({ text, sequence, messageId = "" }) {
    const shown = lineElement("user", text);
    shown.dataset.sequence = String(sequence);
    shown.dataset.state = "durable";
    place(shown, `#${sequence} · handled`, "you");
    this.asked.set(messageId, shown);
    return shown;
  }

  /**
   * Typed here before the loss, and nothing has come since: its place is before the mark.
   * @param {Line} line
   */
  isBeforeSeam({ messageId = "" }) {
    if (this.seam === null || page.log.lastElementChild !== this.seam.element) return false;
    const message = this.pending.get(messageId);
    return message !== undefined && message.atMs < this.seam.atMs;
  }

  dropOldest() {
    const oldest = this.lines.entries().next().value;
    if (!oldest) return;
    const [id, shown] = oldest;
    shown.remove();
    this.lines.delete(id);
    while (page.log.firstElementChild?.className === "seam") page.log.firstElementChild.remove();
    for (const [messageId, asked] of this.asked) if (asked === shown) this.asked.delete(messageId);
  }

  // own messages

  /** @param {string} text */
  say(text) {
    /** @type {StoredMessage} */
    const message = { id: newId(), text, atMs: Date.now(), state: "sending" };
    store(this.prefix + message.id, message); // P1
    this.show(message, 0);
    toEnd();
    this.sendNext();
  }

  /**
   * What this browser still has of this conversation, oldest first.
   * @param {number} waitMs
   */
  restore(waitMs) {
    const stored = storedKeys(this.prefix)
      .map(restored)
      .filter((message) => message !== null);
    for (const message of stored.sort((a, b) => a.atMs - b.atMs)) {
      if (message.state === "durable" && Date.now() - message.atMs > DURABLE_KEPT_MS) unstore(this.prefix + message.id);
      else this.show(message, waitMs);
    }
  }

  /**
   * @param {StoredMessage} message
   * @param {number} waitMs
   */
  show(message, waitMs) {
    if (this.asked.has(message.id)) return unstore(this.prefix + message.id);
    const known = this.pending.get(message.id);
    if (known) {
      known.state = message.state;
      return this.showState(known);
    }
    const shown = lineElement("user", message.text);
    const added = { ...message, element: shown, notBeforeMs: Date.now() + waitMs };
    this.pending.set(message.id, added);
    this.showState(added);
    page.pending.append(shown);
    page.empty.hidden = true;
    this.offer();
  }

  /** @param {PendingMessage} message */
  showState(message) {
    message.element.dataset.state = message.state;
    const words = {
      sending: message.note ?? (link === "down" ? "not sent yet, kept here" : "sending"),
      durable: "durable: on disk, not handled yet",
      refused: `not accepted: ${message.note}`,
    };
    place(message.element, words[message.state], "you");
    showLost();
  }

  /**
   * @param {PendingMessage} message
   * @param {MessageState} state
   * @param {string} [note]
   */
  change(message, state, note) {
    message.state = state;
    message.note = note;
    if (this.pending.has(message.id)) {
      if (state === "refused") unstore(this.prefix + message.id);
      else store(this.prefix + message.id, { id: message.id, text: message.text, atMs: message.atMs, state });
      this.showState(message);
      this.offer();
    }
  }

  /** P5 */
  offer() {
    const isWaiting = [...this.pending.values()].some(({ state }) => state !== "refused");
    showQuickReplies(isWaiting ? [] : this.offered);
  }

  /**
   * Its line came back, here or in another tab.
   * @param {string} messageId
   */
  forget(messageId) {
    const message = this.pending.get(messageId);
    unstore(this.prefix + messageId);
    this.pending.delete(messageId);
    message?.element.remove();
    showLost();
  }

  get unsent() {
    return [...this.pending.values()].filter(({ state }) => state === "sending");
  }

  /** P2: one at a time, the oldest first, until it is durable. */
  async sendNext() {
    if (this.isSending || this.isClosed) return;
    const message = this.unsent[0];
    if (!message) return;
    const waitMs = message.notBeforeMs - Date.now();
    if (waitMs > 0) return this.after("send", waitMs, () => this.sendNext());
    clearTimeout(this.timers.send);
    this.isSending = true;
    const retryMs = await this.attempt(message);
    this.isSending = false;
    if (retryMs === null) this.sendNext();
    else this.after("send", retryMs, () => this.sendNext());
  }

  /**
   * @param {PendingMessage} message
   * @returns {Promise<number | null>} null if this message is settled, else when to send it again, ms
   */
  async attempt(message) {
    const { conversation } = this;
    const body = JSON.stringify({ conversation, id: message.id, text: message.text });
    try {
      const response = await fetch(this.url, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body,
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      });
      if (response.status === 202) {
        this.sendFailures = 0;
        this.change(message, "durable");
        return null;
      }
      const problem = await response.json().catch(() => ({}));
      const detail = problem.detail ?? `HTTP ${response.status}`;
      if (response.status < 500 && response.status !== 429 && response.status !== 408) {
        this.change(message, "refused", detail);
        return null;
      }
      this.change(message, "sending", "not sent yet, the server asks to wait");
      return Math.max(
        backoffMs(SEND_RETRY, this.sendFailures++),
        Number(response.headers.get("retry-after") ?? 0) * 1_000,
      );
    } catch {
      this.change(message, "sending", "not sent yet, kept here"); // unknown whether it arrived: same id again
      return backoffMs(SEND_RETRY, this.sendFailures++);
    }
  }

  // the record

  /** Once for the lines of a moment, and at least so often while lines do not end. */
  readRecordSoon() {
    if (this.isRecordAsked) return;
    this.isRecordAsked = true;
    this.after("record", RECORD_DELAY_MS, () => this.readRecord());
  }

  async readRecord() {
    this.isRecordAsked = false;
    if (this.lines.size === 0) return;
    try {
      const response = await fetch(`${this.url}/${encodeURIComponent(this.conversation)}/record`);
      if (response.ok && !this.isClosed) showRecord(await response.json());
    } catch {
      // the next line or connection asks again
    }
  }
}

/** @type {(backoff: Backoff, failures: number) => number} */
function backoffMs({ firstMs, maxMs }, failures) {
  return Math.min(maxMs, firstMs * 2 ** Math.min(failures, 10)) * (0.75 + Math.random() / 2);
}

// --- storage: one key for each message, so that two tabs never write the same one -------------------------------------

/** @type {(key: string, message: StoredMessage) => void} */
function store(key, message) {
  try {
    localStorage.setItem(key, JSON.stringify(message));
  } catch {
    // full or forbidden: the message lives as long as this tab
  }
}

/** @type {(prefix: string) => string[]} */
function storedKeys(prefix) {
  try {
    return Object.keys(localStorage).filter((key) => key.startsWith(prefix));
  } catch {
    return [];
  }
}

/** @type {(key: string) => void} */
function unstore(key) {
  try {
    localStorage.removeItem(key);
  } catch {
    // as above
  }
}

/** @type {(key: string) => StoredMessage | null} */
function restored(key) {
  try {
    const { id, text, atMs, state } = JSON.parse(localStorage.getItem(key) ?? "");
    if (typeof id === "string" && typeof text === "string")
      return { id, text, atMs: Number(atMs) || 0, state: state === "durable" ? state : "sending" };
  } catch {
    // not ours, or cut
  }
  return null;
}

// --- showing --------------------------------------------------------------------------------------------------------

/**
 * P4
 * @param {"user" | "bot"} role
 * @param {string} text
 */
function lineElement(role, text) {
  const shown = document.createElement("div");
  shown.className = `message ${role}`;
  const said = document.createElement("p");
  said.textContent = text;
  const where = document.createElement("p");
  where.className = "place";
  shown.append(said, where);
  return shown;
}

/** @type {(shown: HTMLElement, text: string, who: string) => void} */
function place(shown, text, who) {
  const where = shown.querySelector(".place");
  if (where) where.textContent = `${who} · ${text}`;
}

/**
 * Buttons under the newest line. Outside of the log, whose live region would read them aloud before each question.
 * @param {string[]} texts
 */
function showQuickReplies(texts) {
  const shown = [...page.quick.children].map((button) => button.textContent);
  if (shown.length === texts.length && shown.every((text, i) => text === texts[i])) return;
  if (page.quick.contains(document.activeElement)) placeWithoutButtons().focus(); // else the keyboard would be nowhere
  page.quick.replaceChildren(...texts.map(quickReplyElement));
  page.quick.hidden = texts.length === 0;
}

const isTouched = () => matchMedia("(pointer: coarse)").matches;

/** Not the box on a phone: its keyboard would come up with each answer that is pressed. */
const placeWithoutButtons = () => (isTouched() ? page.scroll : page.text);

/** Ready to type, unless that brings a keyboard up over half of the page before anything was read. */
function beginTyping() {
  if (!isTouched()) page.text.focus();
}

/** @param {string} text */
function quickReplyElement(text) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text; // P4
  button.addEventListener("click", () => talk?.say(text));
  return button;
}

/** Whether the reader is at the newest line: then the page keeps there, whatever grows, and else it moves nothing. */
let isAtEnd = true;

function toEnd() {
  isAtEnd = true;
  page.scroll.scrollTop = page.scroll.scrollHeight;
}

page.scroll.addEventListener("scroll", () => {
  isAtEnd = page.scroll.scrollHeight - page.scroll.scrollTop - page.scroll.clientHeight < 80;
});

const growth = new ResizeObserver(() => isAtEnd && toEnd());
for (const part of [page.scroll, page.log, page.pending, page.quick]) growth.observe(part); // lines, the window, a phone's keyboard

/** @type {Link} */
let link = "wait";

/** @param {Link} state */
function showLink(state) {
  link = state;
  page.link.dataset.state = state;
  page.link.textContent = state === "up" ? "Connected" : "Connection lost";
  page.copy.disabled = state === "down";
  if (state === "down") page.kill.textContent = "no server answers";
  for (const message of talk?.unsent ?? []) {
    message.note = undefined;
    talk?.showState(message);
  }
  showLost();
}

function showLost() {
  const waiting = talk?.unsent.length ?? 0;
  const kept =
    waiting === 0 ? "" : ` ${waiting === 1 ? "1 message waits" : `${waiting} messages wait`} here to be sent.`;
  const text = link === "down" ? `Connection lost, retrying; nothing is lost.${kept}` : "";
  if (page.lost.textContent !== text) page.lost.textContent = text;
  page.lost.hidden = text === "";
}

/** @param {ConversationRecord | null} record */
function showRecord(record) {
  const values = {
    "r-seq": record?.seq,
    "r-out": record?.outSeq,
    "r-cursor": record && `${record.cursor.entry}, ${record.cursor.index}`,
    "r-born": record?.born,
    "r-version": record?.botVersion,
    "r-state": record && JSON.stringify(record.state, null, 2),
  };
  for (const [id, value] of Object.entries(values)) found(id, HTMLElement).textContent = String(value ?? "-");
}

async function readInfo() {
  const response = await fetch("/channels/web/info", { signal: AbortSignal.timeout(ALIVE_TIMEOUT_MS) });
  /** @type {{ bots: string[], pid?: number }} */
  const info = await response.json();
  serverPid = info.pid;
  page.crash.hidden = info.pid === undefined;
  page.kill.textContent = `kill -9 ${info.pid}`;
  if (info.bots.join() === bots.join()) return;
  bots = info.bots;
  page.bot.replaceChildren(...bots.map((name) => new Option(name, name)));
  page.bot.disabled = bots.length < 2;
  if (talk) page.bot.value = talk.bot;
}

// --- what the user does -----------------------------------------------------------------------------------------------

page.composer.addEventListener("submit", (event) => {
  event.preventDefault();
  const typed = page.text.value.trim();
  const text = typed.toWellFormed?.() ?? typed;
  if (text === "" || !talk) return;
  talk.say(text);
  page.text.value = "";
  fitText();
  page.text.focus();
});

page.text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  page.composer.requestSubmit();
});

page.text.addEventListener("input", fitText);

function fitText() {
  page.text.rows = Math.min(6, page.text.value.split("\n").length);
}

page.bot.addEventListener("change", () => {
  location.hash = addressOf(page.bot.value, newId());
});

page.new.addEventListener("click", () => {
  location.hash = addressOf(talk?.bot ?? bots[0] ?? "", newId());
  beginTyping();
});

page.copy.addEventListener("click", async () => {
  const text = page.kill.textContent ?? "";
  try {
    await navigator.clipboard.writeText(text);
    page.copied.textContent = `Copied: ${text}`;
  } catch {
    getSelection()?.selectAllChildren(page.kill); // no clipboard on a page that is not from localhost or https
    page.copied.textContent = "Marked; copy it with your keyboard.";
  }
});

addEventListener("hashchange", showAddress);

/** Another tab of this browser stored or settled a message. */
addEventListener("storage", (event) => {
  if (!talk || !event.key?.startsWith(talk.prefix)) return;
  if (event.newValue !== null) {
    talk.restore(OTHER_TAB_MS);
    talk.sendNext();
  }
});

addEventListener("online", () => talk?.connect());

async function checkAlive() {
  if (talk?.source && link === "up") {
    try {
      await fetch("/livez", { signal: AbortSignal.timeout(ALIVE_TIMEOUT_MS) });
    } catch {
      if (link === "up") talk.disconnected();
    }
  }
  setTimeout(checkAlive, ALIVE_EVERY_MS);
}

async function begin() {
  page.panel.open = matchMedia("(min-width: 46rem)").matches;
  for (let failures = 0; bots.length === 0; failures += 1) {
    try {
      await readInfo();
    } catch {
      showLink("down");
      await new Promise((resolve) => setTimeout(resolve, backoffMs(STREAM_RETRY, failures)));
    }
  }
  showAddress();
  beginTyping();
  setTimeout(checkAlive, ALIVE_EVERY_MS);
}

begin();
