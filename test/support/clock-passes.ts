/** Waits by the wall clock itself: a timer counts from the start of its loop round, so in a long round it may come at once. */
export async function clockPasses(ms: number): Promise<void> {
  const endMs = Date.now() + ms;
  while (Date.now() < endMs) await new Promise((resolve) => setTimeout(resolve, 1));
}
