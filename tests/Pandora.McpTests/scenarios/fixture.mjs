// What the scenarios get: sessions of a client from npm, over HTTP or stdio.
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { join } from 'node:path'

const { PANDORA_URL: url, PANDORA_API_KEY: key, PANDORA_CLI: cli, OTHER_KEY: otherKey } = process.env
const errorOf = (result) => result._meta?.['pandora/error']
const isOfGuest = (block) => block._meta?.['pandora/from'] === 'guest'
const sessions = new Set()
let shared

// One client. It counts its calls, and the bytes that a model writes and reads for them.
class Session {
  calls = 0
  written = 0
  read = 0
  called = new Set()

  constructor(client, transport, isNew) {
    Object.assign(this, { client, transport, isNew })
  }

  // The answer to a call, whatever it is.
  async call(name, args = {}, options = {}) {
    this.calls++
    this.called.add(name)
    this.written += Buffer.byteLength(JSON.stringify({ name, arguments: args }))
    const params = { name, arguments: args }
    const result = await (this.isNew ? this.client.callTool(params, options) : this.client.callTool(params, undefined, options))
    this.read += Buffer.byteLength(JSON.stringify({ content: result.content, structuredContent: result.structuredContent }))
    return result
  }

  // The structured answer to a call that succeeds. The client checks it by the tool's output schema.
  async ok(name, args, options) {
    const result = await this.call(name, args, options)
    assert.ok(!result.isError, `${name} ${shorten(args)}: ${shorten(result.content)}`)
    const [first, ...others] = result.content
    assert.equal(first.type, 'text')
    assert.ok(!isOfGuest(first))
    assert.ok(others.every(isOfGuest), shorten(others))
    return result.structuredContent
  }

  // The error of a call that is refused: its code, its field, its text. What the guest says of it is marked.
  async refused(name, args, options) {
    const result = await this.call(name, args, options)
    assert.equal(result.isError, true, `${name} ${shorten(args)} succeeded: ${shorten(result.content)}`)
    const [first, ...others] = result.content
    assert.ok(!isOfGuest(first) && others.every(isOfGuest), shorten(result.content))
    assert.equal(result.structuredContent, undefined)
    const { text } = first
    const error = errorOf(result)
    assert.ok(error && text.startsWith(`${error.code}: `), `${shorten(text)} ${JSON.stringify(error)}`)
    return { ...error, text }
  }

  // What a command prints.
  async output(command, args = {}) {
    const answer = await this.ok('run', { command, ...args })
    assert.equal(answer.state, 'ended', `${command} did not end`)
    assert.equal(answer.exit_code, 0, `${command}: ${shorten(answer.guest.output)}`)
    return answer.guest.output
  }

  async tools() {
    return (await this.client.listTools()).tools
  }

  async sandboxes() {
    return (await this.ok('sandbox_list')).sandboxes.map((s) => s.sandbox).sort()
  }

  async close() {
    sessions.delete(this)
    await this.client.close()
  }
}

const shorten = (value) => {
  const text = JSON.stringify(value) ?? ''
  return text.length > 600 ? `${text.slice(0, 600)}…` : text
}

export async function open(clients, name) {
  const require = createRequire(join(clients, 'package.json'))
  const [kind, , way] = name.split(' ')
  const isNew = kind === 'client'
  const { Client } = require(isNew ? '@modelcontextprotocol/client' : '@modelcontextprotocol/sdk/client/index.js')
  const { StreamableHTTPClientTransport } =
    require(isNew ? '@modelcontextprotocol/client' : '@modelcontextprotocol/sdk/client/streamableHttp.js')
  const { StdioClientTransport } = require(isNew ? '@modelcontextprotocol/client/stdio' : '@modelcontextprotocol/sdk/client/stdio.js')

  const transportOf = (options) => {
    const key = options.key ?? test.key
    if (way === 'http') {
      return new StreamableHTTPClientTransport(new URL(`${url}/mcp`), { requestInit: { headers: headersOf(key) } })
    }
    return new StdioClientTransport({
      command: cli, args: ['mcp', ...options.args ?? []], stderr: 'pipe', env: environmentOf(key, options.env),
    })
  }

  const test = {
    url, cli, key, otherKey, clients, name, isNew, way, isOfGuest, errorOf, shorten,

    // A client that is connected. Its tools are listed, so that it knows the schemas of their answers.
    async connect(options = {}) {
      const negotiation = isNew ? { versionNegotiation: { mode: 'auto' } } : undefined
      const session = new Session(new Client({ name: 'pandora-tests', version: '1.0.0' }, negotiation), transportOf(options), isNew)
      sessions.add(session)
      await session.client.connect(session.transport)
      await session.tools()
      return session
    },

    // The session that all scenarios of a file share, with a sandbox.
    shared: () => (shared ??= (async () => {
      const session = await test.connect()
      session.sandbox = (await session.ok('run', { command: 'true' })).sandbox
      return session
    })()),
  }
  return test
}

export const headersOf = (key) => (key ? { Authorization: `Bearer ${key}` } : {})

export const environmentOf = (key, more = {}) => ({
  PATH: process.env.PATH, HOME: process.env.HOME, PANDORA_URL: url,
  ...process.env.DOTNET_ROOT ? { DOTNET_ROOT: process.env.DOTNET_ROOT } : {},
  ...key ? { PANDORA_API_KEY: key } : {}, ...more,
})

// One request as its bytes are, for what no client sends. The answer's status, headers and messages.
export async function post(body, { headers = {}, key = process.env.PANDORA_API_KEY } = {}) {
  const response = await fetch(`${url}/mcp`, {
    method: 'POST',
    headers: {
      'Content-Type': 'application/json', Accept: 'application/json, text/event-stream', ...headersOf(key), ...headers,
    },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
  const text = await response.text()
  const isStream = response.headers.get('content-type')?.startsWith('text/event-stream')
  const parts = isStream ? text.split('\n').filter((l) => l.startsWith('data: ')).map((l) => l.slice(6)) : text ? [text] : []
  const messages = parts.map((p) => {
    try {
      return JSON.parse(p)
    } catch {
      return p
    }
  })
  return { status: response.status, headers: response.headers, messages, last: messages.at(-1), text }
}

export async function close() {
  for (const session of sessions) {
    for (const id of session.sandbox ? [session.sandbox] : []) await session.call('sandbox_end', { sandbox: id }).catch(() => {})
    await session.close().catch((e) => process.stderr.write(`${e}\n`))
    await session.afterwards?.()
  }
}
