import { expect, test } from "vitest";
import { serverAddress } from "../../src/cli/server-address.ts";

const url = "http://chat.example.org/below";

test("the address is that of --url, as it was given", () => {
  expect(serverAddress({ url }).href).toBe(url);
});

test("--port is short for that port of this machine", () => {
  expect(serverAddress({ url, port: "8080" }).origin).toBe("http://127.0.0.1:8080");
  expect(serverAddress({ url, port: "65535" }).port).toBe("65535");
});

test.each(["", "0", "65536", "-1", "4e3", "80 ", "0x50"])("a port that is none is refused: %j", (port) => {
  expect(() => serverAddress({ url, port })).toThrow(/--port.*not a whole number from 1 to 65535/);
});

test.each(["4000", "localhost:4000", "ftp://example.org", ""])("an address that is none is refused: %j", (bad) => {
  expect(() => serverAddress({ url: bad })).toThrow(/--url.*not the address of a server/);
});
