// Places: where a list goes on, as text that whoever reads pages passes back. Opaque to them, and good for one kind of list. Pure.

import { formatEntryId, parseEntryId } from "../domain/position.ts";
import { shardTag } from "../store/keys.ts";
import type { DeadLetterPlace, OpenPlace } from "./inspector.ts";

/** Of what is stored, of memory, of the index of the unfinished, of that of lanes. */
type Kind = "s" | "m" | "i" | "l";

const tokenOf = (kind: Kind, place: string): string => kind + Buffer.from(place).toString("base64url");

function placeIn(kind: Kind, token: string): string | null {
  if (token[0] !== kind || !/^[\w-]+$/.test(token)) return null;
  return Buffer.from(token.slice(1), "base64url").toString("utf8");
}

export const storedToken = (cursor: string): string => tokenOf("s", cursor);
export const memoryToken = (key: string): string => tokenOf("m", key);
export const openToken = ({ shard, cursor }: OpenPlace): string => tokenOf("i", `${shard}:${cursor}`);
export const laneToken = ({ shard, cursor }: OpenPlace): string => tokenOf("l", `${shard}:${cursor}`);

/** Null for a token of another list, or of none. */
export function readStoredToken(token: string): string | null {
  const cursor = placeIn("s", token);
  return cursor !== null && /^\d{1,20}$/.test(cursor) ? cursor : null;
}

export const readMemoryToken = (token: string): string | null => placeIn("m", token);

export const readOpenToken = (token: string): OpenPlace | null => scanPlaceIn("i", token);
export const readLaneToken = (token: string): OpenPlace | null => scanPlaceIn("l", token);

function scanPlaceIn(kind: "i" | "l", token: string): OpenPlace | null {
  const [, shard, cursor] = /^(\d{1,3}):(.{1,4096})$/s.exec(placeIn(kind, token) ?? "") ?? [];
  return shard === undefined ? null : { shard: Number(shard), cursor: cursor! };
}

/** The name of a dead letter, `<shard>:<entry id>`; also where a list of them goes on. */
export const deadLetterName = ({ shard, entry }: DeadLetterPlace): string =>
  `${shardTag(shard)}:${formatEntryId(entry)}`;

export function readDeadLetterPlace(text: string): DeadLetterPlace | null {
  const [, shard, entry] = /^(\d{2,3}):(\d{1,15}-\d{1,15})$/.exec(text) ?? [];
  return shard === undefined ? null : { shard: Number(shard), entry: parseEntryId(entry!) };
}
