// What E2B's SDK costs on top of Pandora's own API: node e2b.mjs CLIENTS URL. Prints the medians, in milliseconds, as JSON.
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const [clients, url] = process.argv.slice(2)
const rounds = 40, creations = 10, transfers = 3, bytes = 100_000_000
const { Sandbox } = await import(pathToFileURL(createRequire(`${clients}/`).resolve('e2b-2.51.0')))

const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)]
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds))

async function time(work) {
  const start = performance.now()
  await work()
  return performance.now() - start
}

async function own(method, path, body, type = 'application/json') {
  const answer = await fetch(url + path, { method, body, headers: { 'Content-Type': type } })
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`)
  return answer.status === 204 ? undefined : answer.json()
}

const warm = async (count) => {
  while ((await own('GET', '/health')).warm_vms < count) await pause(100)
  await pause(500)
}

// Both ways in turn, so that what else the machine does disturbs both.
const found = { sdkRun: [], ownRun: [], sdkWrite: [], ownWrite: [], sdkCreate: [], ownCreate: [] }
const sandbox = await Sandbox.create({ timeoutMs: 3_600_000 })
const path = `/sandboxes/${sandbox.sandboxId}`
await sandbox.commands.run('true')
await warm(2)
const command = JSON.stringify({ args: ['/bin/bash', '-l', '-c', 'true'], user: 'user' })
for (let i = 0; i < rounds; i++) {
  found.sdkRun.push(await time(() => sandbox.commands.run('true')))
  found.ownRun.push(await time(async () => {
    const { process_id: id } = await own('POST', `${path}/processes`, command)
    await own('GET', `${path}/processes/${id}/wait`)
  }))
}

const big = Buffer.alloc(bytes, 'pandora')
for (let i = 0; i < transfers; i++) {
  found.sdkWrite.push(await time(() => sandbox.files.write('/home/user/sdk', new Blob([big]))))
  found.ownWrite.push(await time(() => own('PUT', `${path}/files?path=/home/user/own`, big, 'application/octet-stream')))
}

await sandbox.kill()
for (let i = 0; i < creations; i++) {
  await warm(2)
  let made, plain
  found.sdkCreate.push(await time(async () => { made = await Sandbox.create() }))
  found.ownCreate.push(await time(async () => { plain = await own('POST', '/sandboxes', '{}') }))
  await made.kill()
  await own('DELETE', `/sandboxes/${plain.sandbox_id}`)
}

console.log(JSON.stringify(Object.fromEntries(Object.entries(found).map(([name, values]) => [name, median(values)]))))
