// What docs/deploy/ hands to an operator fits what the runtime does: its defaults, its exit codes, and what it asks of Redis.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { EXIT } from "../../src/cli/exit.ts";
import { resolveConfig } from "../../src/config.ts";
import { systemEnvironment } from "../../src/environment.ts";
import { pagePaths } from "../../src/ingress/page-route.ts";
import { RedisStore } from "../../src/store/redis-store.ts";
import { checkSafety } from "../../src/store/safety.ts";
import { RedisServer } from "../support/redis-server.ts";
import { ROOT } from "./support/markdown.ts";

const read = (name: string): string => readFileSync(join(ROOT, "docs/deploy", name), "utf8");
const config = resolveConfig({});
/** What the embedded Redis and the port have beside `drainMs` when the tree stops. */
const AFTER_DRAIN_MS = 15_000;

describe("colloquy.service", () => {
  const unit = read("colloquy.service");
  const values = (name: string): string[] => [...unit.matchAll(new RegExp(`^${name}=(.*)$`, "gm"))].map(([, v]) => v!);
  const value = (name: string): string => values(name)[0]!;

  test("has every line as a setting, a section or a comment", () => {
    for (const line of unit.split("\n")) expect(line).toMatch(/^(#.*|\[\w+\]|[A-Z]\w+=.*|)$/);
  });

  test("tells the runtime alone to stop, and gives it the time that it takes", () => {
    expect(value("KillSignal")).toBe("SIGTERM");
    expect(value("KillMode")).toBe("mixed");
    expect(Number(value("TimeoutStopSec")) * 1_000).toBeGreaterThan(config.drainMs + AFTER_DRAIN_MS);
  });

  test("starts again whatever happened but a wrong setting", () => {
    expect(value("Restart")).toBe("always");
    expect(value("StartLimitIntervalSec")).toBe("0");
    expect(values("RestartPreventExitStatus")).toEqual([String(EXIT.usage)]);
  });

  test("has files for all connections, and memory for a machine of 8 GB", () => {
    expect(Number(value("LimitNOFILE"))).toBeGreaterThan(2 * config.connectionsMax);
    expect(value("MemoryMax")).toBe("7G");
  });

  test("writes only where its data are, and compiles JavaScript", () => {
    expect(value("ProtectSystem")).toBe("strict");
    expect(value("ExecStart")).toContain(`--data /var/lib/${value("StateDirectory")}`);
    expect(unit).not.toMatch(/^MemoryDenyWriteExecute/m);
  });
});

describe("redis.conf", () => {
  let server: RedisServer;
  afterAll(() => server.remove());

  test("is taken by a real server, which then is safe enough for the strongest promise", async () => {
    const settings = read("redis.conf")
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"))
      .map((line) => /^(\S+) (.*)$/.exec(line)!.slice(1) as [string, string]);
    expect(settings.length).toBeGreaterThan(10);
    const args = settings.flatMap(([name, value]) => [`--${name}`, value === '""' ? "" : value]);
    server = await RedisServer.start({ args });
    const store = new RedisStore({
      environment: systemEnvironment,
      address: { path: server.path },
      namespace: "deploy",
    });
    const facts = await store.facts();
    expect(checkSafety(facts, "always")).toEqual([]);
    expect(facts.maxMemoryBytes).toBe(3 * 1024 ** 3);
    await store.close();
  });
});

describe.each(["nginx.conf", "Caddyfile"])("%s", (name) => {
  const active = read(name)
    .split("\n")
    .map((line) => line.replace(/#.*/, ""))
    .join("\n");

  test("passes on neither admin, nor metrics, nor the probes, and takes bodies that the node takes", () => {
    for (const path of ["admin", "metrics", "livez", "readyz"]) expect(active).not.toContain(path);
    expect(active).toMatch(/(return|respond) 404/);
    expect(active).toMatch(/(client_max_body_size 1m;|max_size 1MB)/);
    expect(config.requestBytesMax).toBe(1_048_576);
  });

  test("does not hold event streams back", () => {
    expect(active).toMatch(/(proxy_buffering off;|flush_interval -1)/);
  });
});

test("both proxies pass on each file of the page", () => {
  const location = new RegExp(/location ~ (\^\/\(chat\S+)/.exec(read("nginx.conf"))![1]!);
  const named = /@page path (.*)/.exec(read("Caddyfile"))![1]!.split(" ");
  expect(pagePaths().length).toBeGreaterThan(2);
  for (const path of pagePaths()) {
    expect(path).toMatch(location);
    expect(named).toContain(path);
  }
});

test("nginx.conf says who asks, keeps Host, and waits longer than the node does", () => {
  const text = read("nginx.conf");
  expect(text).toContain("proxy_set_header X-Forwarded-For $remote_addr;");
  expect(text).toContain("proxy_set_header Host $http_host;");
  const seconds = (pattern: RegExp): number => Number(pattern.exec(text)?.[1]) * 1_000;
  expect(seconds(/keepalive_timeout (\d+)s;/)).toBeLessThan(config.keepAliveTimeoutMs);
  expect(seconds(/channels\/http[\s\S]*?proxy_read_timeout (\d+)s;/)).toBeGreaterThan(config.admitTimeoutMs);
  expect(seconds(/channels\/web[\s\S]*?proxy_read_timeout (\d+)s;/)).toBeGreaterThan(2 * config.eventStreamHeartbeatMs);
});
