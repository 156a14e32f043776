// Runs the scenarios of one file against one client: node run.mjs CLIENTS CLIENT FILE SCENARIO…
// CLIENTS is the directory where npm installed the clients. Prints one line of JSON for each scenario: name, ok, milliseconds, error.
import { readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

const longestMs = 90_000
const [clients, client, file, ...names] = process.argv.slice(2)
const directory = resolve(clients, 'node_modules', client)
const { module } = JSON.parse(await readFile(join(directory, 'package.json'), 'utf8'))
const sdk = module ? await import(pathToFileURL(join(directory, module))) : {}
const scenarios = await import(pathToFileURL(resolve(file)))
const made = new Map()
let shared

const test = {
  sdk,
  clients: resolve(clients),

  // A sandbox of this scenario's own.
  async create(options = {}) {
    const sandbox = await sdk.Sandbox.create({ timeoutMs: 300_000, ...options })
    made.set(sandbox.sandboxId, options)
    return sandbox
  },

  // The sandbox that all scenarios of a file share.
  shared: () => (shared ??= test.create()),

  // Ends a sandbox before its scenario does.
  async kill(sandbox) {
    made.delete(sandbox.sandboxId)
    return sandbox.kill()
  },
}

async function limited(work) {
  let timer
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the scenario did not end within ${longestMs} ms`)), longestMs)
  })
  try {
    await Promise.race([work, limit])
  } finally {
    clearTimeout(timer)
  }
}

// Errors have causes, and those of the network say the most.
function describe(error) {
  const causes = []
  for (let cause = error; cause && causes.length < 4; cause = cause.cause) causes.push(cause.stack ?? String(cause))
  return causes.join('\ncaused by: ')
}

for (const name of names) {
  const start = performance.now()
  let error = null
  try {
    await limited(scenarios[name](test))
  } catch (e) {
    error = describe(e)
  }
  const result = { name, ok: error === null, milliseconds: Math.round(performance.now() - start), error }
  process.stdout.write(JSON.stringify(result) + '\n')
}

for (const [id, options] of made) await sdk.Sandbox.kill(id, options).catch((e) => process.stderr.write(`${id}: ${e}\n`))
// A scenario that failed may have left timers and connections.
process.exit(0)
