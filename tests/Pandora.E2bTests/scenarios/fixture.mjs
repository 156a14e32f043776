// What the scenarios of E2B's clients get.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

const made = new Map()
let sdk, shared

export async function open(clients, client) {
  const directory = join(clients, 'node_modules', client)
  const { module } = JSON.parse(await readFile(join(directory, 'package.json'), 'utf8'))
  sdk = module ? await import(pathToFileURL(join(directory, module))) : {}
  const test = {
    sdk,
    clients,

    // A sandbox of this scenario's own.
    async create(options = {}) {
      const sandbox = await sdk.Sandbox.create({ timeoutMs: 900_000, ...options })
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
  return test
}

export async function close() {
  for (const [id, options] of made) await sdk.Sandbox.kill(id, options).catch((e) => process.stderr.write(`${id}: ${e}\n`))
}
