// Verbs over real HTTP: no page of another site can have them done, with whatever request a browser sends for it unasked.

import { request } from "undici";
import { afterEach, beforeEach, expect, test } from "vitest";
import { AdminWorld } from "../support/admin-world.ts";

const VERBS = [
  "/admin/conversations/retry",
  "/admin/conversations/skip",
  "/admin/lanes/retry",
  "/admin/lanes/skip",
  "/admin/dead-letters/redrive",
];

let world: AdminWorld;
let url: string;
beforeEach(async () => {
  world = new AdminWorld();
  url = await world.start();
  world.halt("c1");
  world.letter("c1");
  world.lane("c1");
});
afterEach(() => world.stop());

async function post(path: string, headers: Readonly<Record<string, string>>, body: string): Promise<number> {
  const answer = await request(new URL(path, url), { method: "POST", headers, body });
  await answer.body.dump();
  return answer.statusCode;
}

const ALL = JSON.stringify({ all: true });
const json = { "content-type": "application/json" };

test.each(VERBS)("%s does what this machine asks", async (path) => {
  expect(await post(path, json, ALL)).toBe(200);
  expect(world.asked.length + world.lanesAsked.length + world.redriven.length).toBe(1);
});

test.each(VERBS)("%s does nothing for a page of another site", async (path) => {
  for (const headers of [{ origin: "https://evil.example" }, { origin: "null" }, { "sec-fetch-site": "cross-site" }])
    expect(await post(path, { ...json, ...headers }, ALL)).toBe(403);
  // what a form or a beacon sends without asking first, also from a browser that says nothing of itself
  for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"])
    expect(await post(path, { "content-type": type }, ALL)).toBe(415);
  expect(await post(path, json, "")).toBe(422);
  expect(await post(path, { ...json, host: "evil.example" }, ALL)).toBe(421);
  expect(await post(path, { ...json, "x-forwarded-for": "203.0.113.9" }, ALL)).toBe(404);
  expect((await request(new URL(path, url))).statusCode).toBe(405);
  expect(world.asked).toEqual([]);
  expect(world.lanesAsked).toEqual([]);
  expect(world.redriven).toEqual([]);
});
