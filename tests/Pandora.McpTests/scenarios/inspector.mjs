// The inspector without its window.
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { environmentOf, headersOf } from './fixture.mjs'

const run = promisify(execFile)

async function inspect(test, args) {
  const program = join(test.clients, 'node_modules/@modelcontextprotocol/inspector/clients/launcher/build/index.js')
  const { stdout } = await run(process.execPath, [program, '--cli', ...args, '--format', 'json', '--quiet'], { env: process.env })
  return JSON.parse(stdout)
}

const overHttp = (test, args) => inspect(test, [
  `${test.url}/mcp`, '--transport', 'http', '--header', ...Object.entries(headersOf(test.key)).map(([n, v]) => `${n}: ${v}`), ...args,
])

const overStdio = (test, args) => inspect(test, [
  test.cli, 'mcp', ...Object.entries(environmentOf(test.key)).flatMap(([n, v]) => ['-e', `${n}=${v}`]), ...args,
])

const call = (name, args) => ['--method', 'tools/call', '--tool-name', name, '--tool-args-json', JSON.stringify(args)]

const listed = (answer) => (answer.tools ?? answer.result.tools).map((t) => t.name).sort()

const resultOf = (answer) => answer.result ?? answer

async function check(inspectBy, test) {
  const own = await test.shared()
  const tools = await inspectBy(test, ['--method', 'tools/list'])
  assert.deepEqual(listed(tools), (await own.tools()).map((t) => t.name).sort())
  const { sandbox } = own
  const answer = resultOf(await inspectBy(test, call('run', { command: 'echo "inspected $((6 * 7))"', sandbox })))
  assert.equal(answer.structuredContent.guest.output, 'inspected 42\n')
  assert.equal(answer.content[1]._meta['pandora/from'], 'guest')
}

export async function it_lists_and_calls_tools_over_http(test) {
  await check(overHttp, test)
}

export async function it_lists_and_calls_tools_over_stdio(test) {
  await check(overStdio, test)
}

export async function it_calls_tools_by_the_newest_revision(test) {
  await check((t, args) => overHttp(t, [...args, '--protocol-era', 'modern']), test)
}

export async function it_finds_no_fault_in_the_schemas(test) {
  assert.equal(listed(await overHttp(test, ['--method', 'tools/list', '--strict'])).length, 14)
}

export async function a_refusal_is_shown_as_an_error(test) {
  const refused = await overHttp(test, call('run', { command: 'true', nonsense: 1 })).catch((e) => JSON.parse(e.stdout || e.stderr))
  assert.match(JSON.stringify(refused), /nonsense/)
  assert.match(JSON.stringify(refused), /"isError":true/)
}
