// The pure parts of the watchdog: what it reads from /proc, and what it writes.

import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import { describe, expect, onTestFinished, test } from "vitest";
import { createLog } from "../../src/log.ts";
import { logLine } from "../../src/watchdog/last-line.ts";
import { frameText } from "../../src/watchdog/main-thread-frames.ts";
import { hasConnectionTo, parseThreadStat } from "../../src/watchdog/proc.ts";
import { SharedBeats } from "../../src/watchdog/shared-beats.ts";
import { startWatchdog } from "../../src/watchdog/watchdog.ts";

const isLinux = process.platform === "linux";

describe("/proc/<pid>/task/<tid>/stat", () => {
  /** State, then what is between, then utime and stime in ticks of 10 ms. */
  const stat = (state: string, name = "node") =>
    `4242 (${name}) ${state} 1 4242 4242 0 -1 4194560 9876 543 21 4 250 51 7 8 20 0 11 0 100 1234567 8901`;

  test("gives CPU time in ms, user and system together, and whether the thread is asleep", () => {
    expect(parseThreadStat(stat("R"))).toEqual({ cpuMs: 3_010, isAsleep: false });
    expect(parseThreadStat(stat("S"))).toEqual({ cpuMs: 3_010, isAsleep: true });
    expect(parseThreadStat(stat("D"))).toEqual({ cpuMs: 3_010, isAsleep: true });
  });

  test("is read whatever the process is named", () => {
    expect(parseThreadStat(stat("R", "a) S (b c) S 1 2 3"))).toEqual({ cpuMs: 3_010, isAsleep: false });
  });

  test("of another form gives null", () => {
    for (const text of ["", "4242", "4242 (node) R 1 2", "4242 (node) R 1 2 3 4 5 6 7 8 9 10 x y"])
      expect(parseThreadStat(text)).toBeNull();
  });

  test("of this process agrees with what the process knows of itself; elsewhere than on Linux there is none", () => {
    const file = `/proc/self/task/${process.pid}/stat`;
    if (!isLinux) return expect(existsSync(file)).toBe(false);
    const { user, system } = process.cpuUsage();
    const own = parseThreadStat(readFileSync(file, "latin1"));
    expect(own?.cpuMs).toBeGreaterThan(0);
    expect(own!.cpuMs).toBeLessThanOrEqual((user + system) / 1_000 + 1_000);
  });
});

describe("/proc/self/net/tcp", () => {
  const TABLE = [
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
    "   0: 0100007F:240D 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1",
    "   1: 0100007F:1F90 0100007F:240D 01 00000000:00000000 00:00000000 00000000     0        0 2",
    "   2: 0100007F:0050 0100007F:C000 01 00000000:00000000 00:00000000 00000000     0        0 3",
  ].join("\n");

  test("has a connection to a port only if it is established and the port is the local one", () => {
    expect(hasConnectionTo(0x1f90, TABLE)).toBe(true);
    expect(hasConnectionTo(0x50, TABLE)).toBe(true);
    expect(hasConnectionTo(9229, TABLE)).toBe(false); // 0x240D: somebody listens, and somebody's far end
    expect(hasConnectionTo(0x5, TABLE)).toBe(false);
  });

  test("of this machine shows a real connection while it is there; elsewhere than on Linux there is none", async () => {
    if (!isLinux) return expect(existsSync("/proc/self/net/tcp")).toBe(false);
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    onTestFinished(() => void server.close());
    const { port } = server.address() as { port: number };
    const table = (): string => readFileSync("/proc/self/net/tcp", "latin1");
    expect(hasConnectionTo(port, table())).toBe(false);
    const client = connect(port, "127.0.0.1");
    await Promise.all([once(client, "connect"), once(server, "connection")]);
    onTestFinished(() => void client.destroy());
    expect(hasConnectionTo(port, table())).toBe(true);
  });
});

describe("a frame", () => {
  test("counts lines and columns from 1 and shows a file by its path", () => {
    expect(frameText("spin", "file:///srv/a%20bot.ts", 11, 2)).toBe("spin (/srv/a bot.ts:12:3)");
    expect(frameText("", "node:internal/timers", 0, 0)).toBe("(anonymous) (node:internal/timers:1:1)");
    expect(frameText("eval", "", 0, 0)).toBe("eval ((no file):1:1)");
    expect(frameText("odd", "file://host/%zz", 0, 0)).toBe("odd (file://host/%zz:1:1)");
  });

  test("of any length keeps its end, where the file and line are", () => {
    const text = frameText("f".repeat(10_000), "/srv/bot.ts", 11, 2);
    expect(text).toHaveLength(303);
    expect(text.endsWith(" (/srv/bot.ts:12:3)")).toBe(true);
  });
});

test("its line has the shape of any line of the log", () => {
  const lines: string[] = [];
  const log = createLog({ level: "info", destination: { write: (line) => void lines.push(line) } });
  const fields = { label: "n1", cpuMs: 510, frames: ["spin (/srv/bot.ts:12:3)"] };
  log.fatal(fields, "blocked");
  const { time } = JSON.parse(lines[0]!) as { time: string };
  expect(logLine("fatal", Date.parse(time), process.pid, fields, "blocked")).toBe(lines[0]);
});

test("beats are seen from the other end of the shared memory, with the inspector's port", () => {
  const main = new SharedBeats();
  const thread = new SharedBeats(main.buffer);
  const before = thread.beats;
  main.beat(9229);
  expect(thread.beats).not.toBe(before);
  expect(thread.inspectorPort).toBe(9229);
});

test("a watchdog that is stopped at once never tells that it started", async () => {
  let isStarted = false;
  const watchdog = startWatchdog({
    limitMs: 60_000,
    onStarted: () => {
      isStarted = true;
    },
  });
  await Promise.all([watchdog.stop(), watchdog.stop()]);
  expect(isStarted).toBe(false);
});
