// Waiting for what a sandbox does meanwhile.
export const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds))

export async function until(condition, what, milliseconds = 90_000) {
  const end = performance.now() + milliseconds
  for (;;) {
    const found = await condition()
    if (found) return found
    if (performance.now() > end) throw new Error(`${what} did not happen within ${milliseconds} ms`)
    await pause(100)
  }
}
