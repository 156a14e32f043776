// './pandora mcp', which speaks MCP on its standard input and output.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { pause, until } from '../../Pandora.TestHost/Scenarios/wait.mjs'
import { environmentOf } from './fixture.mjs'

// The process, driven line by line.
export class Bridge {
  lines = []
  errors = ''
  waiting = new Map()
  next = 1

  constructor(test, args, env) {
    this.child = spawn(test.cli, ['mcp', ...args], { env: environmentOf(test.key, env), stdio: 'pipe' })
    this.child.stdin.on('error', () => {})
    this.child.stderr.on('data', (data) => { this.errors += data })
    let rest = ''
    this.child.stdout.setEncoding('utf8').on('data', (data) => {
      const lines = (rest + data).split('\n')
      rest = lines.pop()
      lines.forEach((line) => this.take(line))
    })
    this.ended = new Promise((resolve) => this.child.on('close', (code, signal) => {
      if (rest) this.take(rest)
      for (const { reject } of this.waiting.values()) reject(new Error(`it ended: ${code ?? signal} ${this.errors}`))
      resolve({ code, signal })
    }))
    // A program that ends is not an error of its own.
    this.child.on('error', () => {})
  }

  // A bridge that has greeted.
  static async start(test, { args = [], env = {} } = {}) {
    const bridge = new Bridge(test, args, env)
    await bridge.greet()
    return bridge
  }

  get pid() {
    return this.child.pid
  }

  async greet() {
    const clientInfo = { name: 'pandora-tests', version: '1.0.0' }
    this.hello = await this.ask('initialize', { protocolVersion: '2025-11-25', capabilities: {}, clientInfo })
    this.send({ jsonrpc: '2.0', method: 'notifications/initialized' })
  }

  take(line) {
    this.lines.push(line)
    let message
    try {
      message = JSON.parse(line)
    } catch {
      return
    }
    const asked = this.waiting.get(message.id)
    if (!asked || message.method) return
    this.waiting.delete(message.id)
    if (message.error) asked.reject(Object.assign(new Error(message.error.message), { answer: message.error }))
    else asked.resolve(message.result)
  }

  send(message) {
    this.child.stdin.write(typeof message === 'string' ? message : `${JSON.stringify(message)}\n`)
  }

  ask(method, params = {}) {
    const id = this.next++
    const answer = new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }))
    // Who asks may look at the answer later.
    answer.catch(() => {})
    this.send({ jsonrpc: '2.0', id, method, params })
    return answer
  }

  call(name, args = {}) {
    return this.ask('tools/call', { name, arguments: args })
  }

  signal(name) {
    this.child.kill(name)
  }

  // Ends it as a client does that goes away.
  async close() {
    this.child.stdin.end()
    return this.endedWithin(60_000)
  }

  async endedWithin(milliseconds) {
    const end = await Promise.race([this.ended, pause(milliseconds)])
    if (!end) this.signal('SIGKILL')
    assert.ok(end, `it did not end within ${milliseconds} ms: ${this.errors}`)
    return end
  }
}

// The sandboxes that the server has, asked by its API.
async function sandboxesOf(test) {
  const answer = await fetch(`${test.url}/sandboxes`, { headers: { 'X-API-Key': test.key } })
  return (await answer.json()).map((s) => s.sandbox_id).sort()
}

async function gone(test, sandbox) {
  await until(async () => !(await sandboxesOf(test)).includes(sandbox), 'the end of its sandbox')
}

export async function its_own_sandbox_is_made_at_its_first_use(test) {
  const before = await sandboxesOf(test)
  const session = await test.connect()
  await session.tools()
  assert.deepEqual(await session.sandboxes(), before)
  assert.deepEqual(await sandboxesOf(test), before)
  const first = await session.ok('file_write', { path: 'kept', text: 'kept\n' })
  assert.equal(first.new_sandbox, true)
  const second = await session.ok('run', { command: 'cat kept' })
  assert.deepEqual([second.sandbox, second.new_sandbox, second.guest.output], [first.sandbox, false, 'kept\n'])
  const { process } = await session.ok('process_start', { command: 'echo mine' })
  assert.ok(process.startsWith(`${first.sandbox}/`))
  await session.close()
  await gone(test, first.sandbox)
}

export async function calls_at_once_at_its_first_use_make_one_sandbox(test) {
  const session = await test.connect()
  const answers = await Promise.all([1, 2, 3, 4].map((i) => session.ok('run', { command: `echo ${i}` })))
  assert.equal(new Set(answers.map((a) => a.sandbox)).size, 1)
  assert.equal(answers.filter((a) => a.new_sandbox).length, 1)
  await session.close()
  await gone(test, answers[0].sandbox)
}

export async function all_of_its_sandboxes_end_with_its_client(test) {
  const session = await test.connect()
  const own = await session.ok('run', { command: 'true' })
  const made = await session.ok('sandbox_create', {})
  assert.notEqual(made.sandbox, own.sandbox)
  await session.close()
  await gone(test, own.sandbox)
  await gone(test, made.sandbox)
}

export async function a_sandbox_that_has_ended_is_replaced(test) {
  const session = await test.connect()
  const first = await session.ok('run', { command: 'true' })
  await session.ok('sandbox_end', { sandbox: first.sandbox })
  const second = await session.call('run', { command: 'echo again' })
  // Its files are gone, and a model must learn it: an error that says so, or a new sandbox that is said to be new.
  const answer = second.isError ? await session.ok('run', { command: 'echo again' }) : second.structuredContent
  assert.deepEqual([answer.new_sandbox, answer.guest.output], [true, 'again\n'])
  assert.notEqual(answer.sandbox, first.sandbox)
  await session.close()
  await gone(test, answer.sandbox)
}

export async function nothing_but_messages_is_on_standard_output(test) {
  const bridge = await Bridge.start(test)
  assert.equal(bridge.hello.serverInfo.name, 'pandora')
  await bridge.ask('tools/list')
  const answer = await bridge.call('run', { command: 'echo out; echo error >&2' })
  assert.equal(answer.structuredContent.guest.output, 'out\nerror\n')
  await assert.rejects(bridge.ask('no/such/method'), (e) => e.answer.code === -32601)
  bridge.send('this is no JSON\n')
  const unknown = await bridge.ask('tools/call', { name: 'no_such_tool', arguments: {} }).catch((e) => e.answer)
  assert.ok(unknown.code || unknown.isError, JSON.stringify(unknown))
  assert.equal((await bridge.call('run', { command: 'echo alive' })).structuredContent.guest.output, 'alive\n')
  const { code } = await bridge.close()
  assert.equal(code, 0, bridge.errors)
  for (const line of bridge.lines) assert.equal(JSON.parse(line).jsonrpc, '2.0', line)
  await gone(test, answer.structuredContent.sandbox)
}

export async function its_sandbox_ends_when_it_is_told_to_end(test) {
  for (const signal of ['SIGTERM', 'SIGINT']) {
    const bridge = await Bridge.start(test)
    const { structuredContent: { sandbox } } = await bridge.call('run', { command: 'true' })
    assert.ok((await sandboxesOf(test)).includes(sandbox))
    bridge.signal(signal)
    await bridge.endedWithin(60_000)
    await gone(test, sandbox)
    for (const line of bridge.lines) assert.equal(JSON.parse(line).jsonrpc, '2.0', line)
  }
}

// The server answers such a call after 45 s: a bridge that waited for it would end too late.
async function startSlowCall(bridge) {
  const { structuredContent: { sandbox } } = await bridge.call('run', { command: 'true' })
  const slow = bridge.call('run', { command: 'exec sleep 300' }).catch(() => 'cut')
  const isRunning = async () => (await bridge.call('run', { command: "pgrep -x -f 'sleep 300'" })).structuredContent.exit_code === 0
  await until(isRunning, 'the command')
  return { sandbox, slow }
}

export async function its_sandbox_ends_although_a_call_goes_on(test) {
  const bridge = await Bridge.start(test)
  const { sandbox, slow } = await startSlowCall(bridge)
  await bridge.close()
  await gone(test, sandbox)
  await slow
}

export async function its_sandbox_ends_when_it_is_told_to_end_during_a_call(test) {
  const bridge = await Bridge.start(test)
  const { sandbox, slow } = await startSlowCall(bridge)
  bridge.signal('SIGTERM')
  await bridge.endedWithin(60_000)
  await gone(test, sandbox)
  await slow
}

export async function its_sandbox_ends_although_its_first_call_still_ran(test) {
  const before = await sandboxesOf(test)
  const bridge = await Bridge.start(test)
  const first = bridge.call('run', { command: 'sleep 300' }).catch(() => 'cut')
  await until(async () => (await sandboxesOf(test)).length > before.length, 'its sandbox')
  await bridge.close()
  await first
  await until(async () => (await sandboxesOf(test)).join() === before.join(), 'the end of its sandbox')
}

export async function without_a_server_it_says_what_starts_one(test) {
  const bridge = new Bridge(test, [], { PANDORA_URL: 'http://127.0.0.1:9' })
  const said = await bridge.greet().then(async () => {
    const answer = await bridge.call('run', { command: 'true' }).catch((e) => e.answer)
    return JSON.stringify(answer)
  }, (e) => String(e))
  await bridge.close()
  assert.match(said + bridge.errors, /\.\/pandora up/)
  for (const line of bridge.lines) assert.equal(JSON.parse(line).jsonrpc, '2.0', line)
}

export async function with_a_wrong_key_it_says_so(test) {
  const bridge = new Bridge(test, [], { PANDORA_API_KEY: `pnd_${'x'.repeat(40)}` })
  const said = await bridge.greet().then(async () => {
    const answer = await bridge.call('run', { command: 'true' }).catch((e) => e.answer)
    return JSON.stringify(answer)
  }, (e) => String(e))
  await bridge.close()
  assert.match(said + bridge.errors, /key/i)
}
