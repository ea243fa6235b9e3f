// @ts-check
// Quick replies: which answers of a reply's data are offered as buttons. A pure rule, apart from the page, so that it
// can be tested without one.
//
// Invariants
//   Q1. What is offered is sent as it stands: a text that is too long for a button is left out, never cut.
//   Q2. Whatever a bot sends, there are few of them, all different, each of one line.

const QUICK_REPLIES_MAX = 8;
const QUICK_REPLY_LENGTH_MAX = 60;

/**
 * @param {unknown} data of a reply; only the strings of its list `suggestions` count
 * @returns {string[]} at most 8, each of 1 to 60 characters
 */
export function quickReplies(data) {
  if (typeof data !== "object" || data === null || !("suggestions" in data)) return [];
  if (!Array.isArray(data.suggestions)) return [];
  const texts = data.suggestions.map((text) => (typeof text === "string" ? text.trim() : ""));
  return [...new Set(texts.filter(isOffered))].slice(0, QUICK_REPLIES_MAX); // Q2
}

/** @param {string} text */
function isOffered(text) {
  const isPrintable = !/[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u.test(text);
  return text !== "" && text.length <= QUICK_REPLY_LENGTH_MAX && isPrintable; // Q1
}
