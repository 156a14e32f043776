// Runs the scenarios of one file with one client: node run.mjs CLIENTS CLIENT FILE SCENARIO…
// CLIENTS is the directory where npm installed the clients. The file's directory has a fixture.mjs: its open(CLIENTS, CLIENT) makes what
// each scenario gets, and its close() ends what scenarios left. A scenario may take 180 s, or its own longestMs. One that mostly waits
// says isPatient: it runs beside the others.
// Prints one line of JSON for each scenario: name, ok, milliseconds, error, and the value that it returned.
import { dirname, join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'

const usualMs = 180_000
const [clients, client, file, ...names] = process.argv.slice(2)
const load = (path) => import(pathToFileURL(resolve(path)))
const fixture = await load(join(dirname(file), 'fixture.mjs'))
const scenarios = await load(file)
const test = await fixture.open(resolve(clients), client)

async function limited(work, longestMs) {
  let timer
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the scenario did not end within ${longestMs} ms`)), longestMs)
  })
  try {
    return await Promise.race([work, limit])
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

async function run(name) {
  const start = performance.now()
  let [error, value] = [null, null]
  try {
    value = await limited(scenarios[name](test), scenarios[name].longestMs ?? usualMs) ?? null
  } catch (e) {
    error = describe(e)
  }
  const result = { name, ok: error === null, milliseconds: Math.round(performance.now() - start), error, value }
  process.stdout.write(JSON.stringify(result) + '\n')
}

const patient = names.filter((name) => scenarios[name].isPatient).map(run)
for (const name of names.filter((name) => !scenarios[name].isPatient)) await run(name)
await Promise.all(patient)
await fixture.close()
// A scenario that failed may have left timers and connections.
process.exit(0)
