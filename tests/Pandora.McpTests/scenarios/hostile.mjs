// Hostile inputs to every tool: each is a clear error that names its field, never a failure of the server, and leaves no new sandbox.
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { post } from './fixture.mjs'

const million = 'x'.repeat(1024 * 1024)

// What may have any characters, because it is the content of something.
const contents = ['text', 'base64', 'stdin', 'old_text', 'new_text', 'until_text', 'command']

// Arguments that are given instead of others.
const insteadOf = { base64: 'text' }

let prepared

// A session with a sandbox, a process that reads its input, and arguments with which each tool succeeds.
const prepare = (test) => (prepared ??= (async () => {
  // Over stdio it has the tools for files of this machine, too.
  const allowed = test.way === 'stdio' ? await mkdtemp(join(tmpdir(), 'pandora-hostile-')) : null
  const session = allowed ? await test.connect({ args: ['--allow', allowed] }) : await test.connect()
  const { sandbox } = await session.ok('run', { command: 'true' })
  session.sandbox = sandbox
  const { process } = await session.ok('process_start', { sandbox, command: 'cat > /dev/null', input: true })
  const [path, edited] = ['/srv/hostile.txt', '/srv/edited.txt']
  await session.ok('file_write', { sandbox, path, text: 'some text\n' })
  await session.ok('file_write', { sandbox, path: edited, text: 'some text\n' })
  const valid = {
    sandbox_create: {}, sandbox_list: {}, sandbox_end: { sandbox },
    run: { sandbox, command: 'true', wait: 20 }, process_start: { sandbox, command: 'true' }, process_read: { process, wait: 0 },
    process_input: { process, text: 'x' }, process_signal: { process, signal: 'CONT' },
    file_read: { sandbox, path }, file_write: { sandbox, path, text: 'some text\n' },
    file_edit: { sandbox, path: edited, old_text: 'some', new_text: 'some more' }, file_list: { sandbox, path: '/srv' },
    file_search: { sandbox, path: '/srv', pattern: 'text' }, port_link: { sandbox, port: 80 },
  }
  if (allowed) {
    const local = join(allowed, 'local.txt')
    await writeFile(local, 'some text\n')
    Object.assign(valid, { upload: { sandbox, from: local, to: '/srv/up' }, download: { sandbox, from: path, to: join(allowed, 'down') } })
    session.afterwards = () => rm(allowed, { recursive: true })
  }
  return { session, sandbox, process, valid, tools: await session.tools() }
})())

// Calls work for each argument of each tool that has one of some types.
async function eachArgument(test, types, work) {
  const { session, valid, tools } = await prepare(test)
  const before = await session.sandboxes()
  for (const tool of tools) {
    for (const [name, schema] of Object.entries(tool.inputSchema.properties ?? {})) {
      const { [insteadOf[name]]: left, ...args } = valid[tool.name]
      if (types.includes(schema.type)) await work({ session, tool: tool.name, name, schema, args })
    }
  }
  assert.deepEqual(await session.sandboxes(), before)
}

// What a refusal is about: its field, or what its code says that there is not.
const aboutOf = ({ field, code }) => field ?? code.match(/^(sandbox|process)_/)?.[1] ?? (code.startsWith('file_') ? 'path' : code)

// The refusal of a value, which names its argument.
async function named(session, tool, args, name, value) {
  const refused = await session.refused(tool, { ...args, [name]: value })
  const what = `${tool}: ${name} = ${JSON.stringify(value)?.slice(0, 60)}: ${JSON.stringify(refused).slice(0, 600)}`
  // A handle has the id of a sandbox in it, and a text that was replaced already is not there.
  const about = [name, { process: 'sandbox', new_text: 'old_text', from: 'path', to: 'path' }[name]]
  assert.ok(about.includes(aboutOf(refused)), what)
  assert.ok(refused.text.length < 700, what)
}

// The same, where the value may also be right.
async function namedOrDone(session, tool, args, name, value) {
  const result = await session.call(tool, { ...args, [name]: value })
  if (result.isError) return named(session, tool, args, name, value)
  const { new_sandbox: isNew, sandbox } = result.structuredContent
  if (isNew || tool === 'sandbox_create') await session.ok('sandbox_end', { sandbox })
}

export async function wrong_types_are_named(test) {
  const wrong = {
    string: [5, true, [], {}, ['a']], number: ['x', '5', true, [], {}], integer: ['x', '5', true, [], {}], boolean: ['yes', 1, [], {}],
    object: ['x', 5, true, [], { a: 5 }, { a: null }, { a: {} }],
  }
  await eachArgument(test, Object.keys(wrong), async ({ session, tool, name, schema, args }) => {
    for (const value of wrong[schema.type]) await named(session, tool, args, name, value)
  })
}

export async function every_argument_has_a_type_that_is_tried(test) {
  for (const tool of (await prepare(test)).tools) {
    for (const [name, { type }] of Object.entries(tool.inputSchema.properties ?? {})) {
      assert.ok(['string', 'number', 'integer', 'boolean', 'object'].includes(type), `${tool.name}: ${name} is ${type}`)
    }
  }
}

export async function unknown_and_missing_arguments_are_named(test) {
  const { session, valid, tools } = await prepare(test)
  const before = await session.sandboxes()
  for (const tool of tools) {
    const args = valid[tool.name]
    for (const name of ['nonsense', 'Sandbox', 'sandbox_id', '__proto__x', 'constructor']) {
      await named(session, tool.name, args, name, 'x')
    }
    for (const name of tool.inputSchema.required ?? []) {
      const { [name]: left, ...others } = args
      assert.equal((await session.refused(tool.name, others)).field, name)
      await named(session, tool.name, args, name, null)
    }
  }
  assert.deepEqual(await session.sandboxes(), before)
}

export async function numbers_out_of_range_are_named(test) {
  await eachArgument(test, ['number', 'integer'], async ({ session, tool, name, schema, args }) => {
    for (const value of [-1, -1e9, 1e300, -1e300]) await named(session, tool, args, name, value)
    if (schema.type === 'integer') await named(session, tool, args, name, 1.5)
    for (const value of [0, 2 ** 31, 2 ** 53]) await namedOrDone(session, tool, args, name, value)
  })
}

export async function texts_with_nul_are_named(test) {
  await eachArgument(test, ['string'], async ({ session, tool, name, args }) => {
    const check = contents.includes(name) && name !== 'command' ? namedOrDone : named
    await check(session, tool, args, name, 'a\0b')
  })
}

export async function half_a_character_is_named(test) {
  await eachArgument(test, ['string'], async ({ session, tool, name, args }) => {
    await unreadable(session.call(tool, { ...args, [name]: 'a\ud800' }), `${name}: has half a surrogate pair`)
  })
  const { session, valid } = await prepare(test)
  await unreadable(session.call('run', { ...valid.run, env: { A: '\udc00' } }), 'env: has half a surrogate pair')
}

// The protocol's own error for params, which no tool gets.
const unreadable = (call, says) => assert.rejects(call, (e) => {
  assert.ok(e.code === -32602 && e.message.includes(says), `${e.code} ${e}`)
  return true
})

export async function texts_of_a_megabyte_are_done_or_named(test) {
  await eachArgument(test, ['string'], async ({ session, tool, name, args }) => {
    const check = contents.includes(name) ? namedOrDone : named
    await check(session, tool, args, name, million)
  })
}

export async function empty_and_strange_texts_are_done_or_named(test) {
  await eachArgument(test, ['string'], async ({ session, tool, name, args }) => {
    for (const value of ['', ' ', '\u202e', '-rf', '$(reboot)', "'; true #"]) await namedOrDone(session, tool, args, name, value)
  })
}

export async function hostile_variables_are_named(test) {
  const { session, valid } = await prepare(test)
  for (const tool of ['run', 'process_start']) {
    for (const env of [{ '': 'x' }, { 'A=B': 'x' }, { 'A\0': 'x' }, { A: 'a\0b' }, { A: million }, { [million]: 'x' }]) {
      await named(session, tool, valid[tool], 'env', env)
    }
  }
}

export async function paths_do_not_leave_the_guest(test) {
  const { session, sandbox } = await prepare(test)
  // The program of this test is on the host, and not in the guest.
  const here = new URL(import.meta.url).pathname
  await readFile(here)
  for (const path of [here, `../../../../../../..${here}`, `/proc/1/root${here}`, `/srv/../../..${here}`, `/proc/self/cwd/..${here}`]) {
    for (const [tool, more] of [
      ['file_read', {}], ['file_edit', { old_text: 'a', new_text: 'b' }], ['file_list', {}], ['file_search', { pattern: 'x' }],
    ]) {
      const refused = await session.refused(tool, { sandbox, path, ...more })
      assert.equal(aboutOf(refused), 'path', `${tool} ${path}: ${refused.text}`)
    }
  }
  const guests = await session.output('cat /etc/passwd', { sandbox })
  assert.equal((await session.ok('file_read', { sandbox, path: '../../../../../etc/passwd' })).guest.text, guests)
}

export async function handles_of_others_and_of_nothing_are_named(test) {
  const { session, sandbox, process, valid } = await prepare(test)
  const other = await test.connect({ key: test.otherKey })
  const { sandbox: foreign, process: theirs } = await other.ok('process_start', { command: 'sleep 100' })
  const before = await session.sandboxes()
  assert.ok(!before.includes(foreign))
  for (const handle of [
    '', '/', 'x', 'a/b', 'a/b/c', sandbox, `${sandbox}/`, `/${process.split('/')[1]}`, `${sandbox}/nothing`, `${sandbox}/../${sandbox}`,
    `${process}/x`, process.toUpperCase() + 'x', theirs, `${foreign}/${process.split('/')[1]}`, `${sandbox}/${theirs.split('/')[1]}`,
  ]) {
    for (const tool of ['process_read', 'process_input', 'process_signal']) {
      await named(session, tool, valid[tool], 'process', handle)
    }
  }
  for (const tool of Object.keys(valid).filter((t) => 'sandbox' in valid[t])) {
    for (const id of ['', 'nothing', '..', `${sandbox}/x`, `${sandbox} `, `x${sandbox.slice(1)}`, foreign]) {
      await named(session, tool, valid[tool], 'sandbox', id)
    }
  }
  assert.deepEqual(await session.sandboxes(), before)
  assert.equal((await other.ok('process_read', { process: theirs, wait: 0 })).state, 'running')
  await other.ok('sandbox_end', { sandbox: foreign })
}

export async function a_call_that_fails_leaves_no_new_sandbox(test) {
  const { session } = await prepare(test)
  const before = await session.sandboxes()
  for (const [tool, args, field] of [
    ['run', { command: 'true', cwd: '/nowhere' }, 'cwd'], ['run', { command: 'true', user: 'nobody-at-all' }, 'user'],
    ['process_start', { command: 'true', cwd: '/nowhere' }, 'cwd'], ['file_read', { path: '/nowhere' }, 'path'],
    ['file_write', { path: '/etc/passwd/x', text: 'x' }, 'path'], ['file_edit', { path: '/nowhere', old_text: 'a', new_text: 'b' }, 'path'],
    ['file_list', { path: '/nowhere' }, 'path'], ['file_search', { path: '/nowhere', pattern: 'x' }, 'path'],
    ['file_search', { path: '/etc', pattern: '(' }, 'pattern'], ['sandbox_create', { template: 'nothing' }, 'template'],
    ['sandbox_create', { memory_mib: 100_000_000 }, 'memory_mib'], ['sandbox_create', { egress: 'everywhere' }, 'egress'],
  ]) {
    const refused = await session.refused(tool, args)
    assert.equal(aboutOf(refused), field, `${tool} ${JSON.stringify(args)}: ${refused.text}`)
  }
  assert.deepEqual(await session.sandboxes(), before)
}

export async function requests_that_are_no_calls_are_refused_without_a_failure(test) {
  const { session } = await prepare(test)
  const before = await session.sandboxes()
  const call = (params) => ({ jsonrpc: '2.0', id: 7, method: 'tools/call', params })
  const deep = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"run","arguments":${'['.repeat(5000)}${']'.repeat(5000)}}}`
  const requests = [
    call({ name: 'run', arguments: [] }), call({ name: 'run', arguments: 'x' }), call({ name: 'run', arguments: 5 }),
    call({ name: 'run', arguments: null }), call({ name: 'run' }), call({ name: 'nothing', arguments: {} }), call({ name: 5 }),
    call({ name: '' }), call({ name: million }), call({ name: 'run', arguments: { command: '\ud800' } }),
    call({}), call(null), call('x'), call([]), { jsonrpc: '2.0', id: 7, method: 'tools/call' },
    { jsonrpc: '2.0', id: 7, method: 'initialize', params: { protocolVersion: 5, capabilities: {}, clientInfo: {} } },
    { jsonrpc: '2.0', id: 7, method: 'nothing' }, { jsonrpc: '1.0', id: 7, method: 'tools/list' }, { id: 7, method: 'tools/list' },
    { jsonrpc: '2.0', id: {}, method: 'tools/list' }, '', 'x', '{', '[]', 'null', '5', '"x"', deep,
    '{"jsonrpc":"2.0","id":7,"method":"tools/list","method":"tools/call"}',
  ]
  for (const body of requests) {
    const answer = await post(body)
    const what = `${JSON.stringify(body).slice(0, 100)}: ${answer.status} ${answer.text.slice(0, 300)}`
    assert.ok(answer.status < 500, what)
    assert.ok(answer.status >= 400 || answer.last?.error || answer.last?.result?.isError, what)
    assert.ok(![-32603, -32000].includes(answer.last?.error?.code), what)
    assert.ok(!/\bat [A-Z]\w+\.|System\.|Exception/.test(answer.text), what)
  }
  for (const meta of ['x', [], { progressToken: {} }, { progressToken: million }, { traceparent: 'x' }]) {
    assert.equal((await post(call({ name: 'sandbox_list', _meta: meta }))).status < 500, true, JSON.stringify(meta).slice(0, 100))
  }
  for (const headers of [
    { 'Content-Type': 'text/plain' }, { Accept: 'text/html' }, { 'MCP-Protocol-Version': '9999-01-01' },
    { 'MCP-Protocol-Version': 'x'.repeat(5000) },
  ]) {
    const answer = await post({ jsonrpc: '2.0', id: 7, method: 'tools/list' }, { headers })
    assert.ok(answer.status >= 400 && answer.status < 500, `${JSON.stringify(headers).slice(0, 100)}: ${answer.status}`)
  }
  const huge = await post(call({ name: 'run', arguments: { command: 'x'.repeat(100 * 1024 * 1024) } })).catch(() => ({ status: 413 }))
  assert.ok(huge.status >= 400 && huge.status < 500 || huge.last?.result?.isError, `${huge.status}`)
  assert.deepEqual(await session.sandboxes(), before)
}
