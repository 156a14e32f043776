import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { request } from 'node:http'

const names = [
  'file_edit', 'file_list', 'file_read', 'file_search', 'file_write', 'port_link', 'process_input', 'process_read', 'process_signal',
  'process_start', 'run', 'sandbox_create', 'sandbox_end', 'sandbox_list',
]

// A picture of one pixel.
const png = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=='

export async function the_newest_revision_that_both_know_is_used(test) {
  const { client, transport } = await test.shared()
  const revision = test.isNew ? client.getNegotiatedProtocolVersion() : transport.protocolVersion ?? transport._protocolVersion
  if (test.way === 'http' || test.isNew) assert.equal(revision, test.isNew ? '2026-07-28' : '2025-11-25')
  assert.equal(client.getServerVersion().name, 'pandora')
  assert.ok(client.getInstructions().includes('never instructions'))
}

export async function every_tool_is_listed_and_described(test) {
  const tools = await (await test.shared()).tools()
  assert.deepEqual(tools.map((t) => t.name).sort(), names)
  for (const tool of tools) {
    assert.ok(tool.description.length > 20 && tool.title, tool.name)
    assert.equal(tool.inputSchema.additionalProperties, false, tool.name)
    assert.ok(tool.outputSchema.properties, tool.name)
    for (const hint of ['readOnlyHint', 'destructiveHint', 'idempotentHint', 'openWorldHint']) {
      assert.equal(typeof tool.annotations[hint], 'boolean', `${tool.name}: ${hint}`)
    }
  }
}

export async function the_list_is_that_of_the_golden_file(test) {
  const golden = new Map(JSON.parse(await readFile(process.env.TOOLS, 'utf8')).map((t) => [t.name, t]))
  for (const tool of await (await test.shared()).tools()) {
    const { inputSchema, outputSchema, title, description, annotations } = golden.get(tool.name)
    assert.deepEqual([tool.title, tool.description, tool.annotations], [title, description, annotations])
    assert.deepEqual(Object.keys(tool.inputSchema.properties ?? {}), Object.keys(inputSchema.properties ?? {}), tool.name)
    assert.deepEqual(tool.outputSchema, outputSchema)
    if (test.way === 'http') assert.deepEqual(tool.inputSchema, inputSchema)
    // Over stdio a call that names no sandbox uses the session's own.
    const required = (inputSchema.required ?? []).filter((n) => n !== 'sandbox' || tool.name === 'sandbox_end')
    if (test.way === 'stdio') assert.deepEqual(tool.inputSchema.required ?? [], required, tool.name)
  }
}

export async function a_command_runs(test) {
  const session = await test.shared()
  const { sandbox } = session
  const answer = await session.ok('run', {
    sandbox, command: 'read line; echo "$line $COLOUR $PWD $(id -un)"; echo no >&2; exit 3', stdin: 'in\n', cwd: '/tmp',
    env: { COLOUR: 'red' }, user: 'root', wait: 30, max_chars: 500,
  })
  assert.equal(answer.guest.output, 'in red /tmp root\nno\n')
  assert.deepEqual(
    [answer.sandbox, answer.new_sandbox, answer.state, answer.reason, answer.exit_code], [sandbox, false, 'ended', 'ended', 3])
  assert.ok(answer.process.startsWith(`${sandbox}/`))
}

export async function output_that_is_cut_is_read_by_its_cursor(test) {
  const session = await test.shared()
  const answer = await session.ok('run', { sandbox: session.sandbox, command: 'seq 1 5000', max_chars: 1000 })
  const [head, tail] = [/^1\n2\n3\n/, /\n4999\n5000\n$/]
  assert.match(answer.guest.output, head)
  assert.match(answer.guest.output, tail)
  assert.ok(answer.guest.output.length < 1300)
  const { cursor, to_cursor: to } = answer.cut
  let [at, middle] = [cursor, '']
  for (let i = 0; i < 20 && at < to; i++) {
    const until = Math.min(to, at + 5000)
    const part = await session.ok('process_read', { process: answer.process, cursor: at, to_cursor: until, max_chars: 6000 })
    assert.equal(part.cut, undefined)
    middle += part.guest.output
    at = part.cursor
  }
  const all = Array.from({ length: 5000 }, (_, i) => `${i + 1}\n`).join('')
  assert.equal(at, to)
  assert.equal(middle, all.slice(cursor, to))
}

export async function a_process_is_started_read_written_to_and_ended(test) {
  const session = await test.shared()
  const { sandbox } = session
  const { process, pid } = await session.ok('process_start', {
    sandbox, input: true, command: 'echo ready; while read line; do echo "got $line"; done; echo over; sleep 600', cwd: '/', timeout: 300,
  })
  assert.ok(pid > 0)
  const first = await session.ok('process_read', { process, until_text: 'ready\n', wait: 20 })
  assert.deepEqual([first.guest.output, first.reason, first.state], ['ready\n', 'text', 'running'])
  const written = await session.ok('process_input', { process, text: 'one\ntwo\n' })
  assert.equal(written.bytes, 8)
  const second = await session.ok('process_read', { process, cursor: first.cursor, until_text: 'got two\n', wait: 20 })
  assert.equal(second.guest.output, 'got one\ngot two\n')
  await session.ok('process_input', { process, end: true })
  const third = await session.ok('process_read', { process, cursor: second.cursor, until_silence: 5, wait: 40 })
  assert.deepEqual([third.guest.output, third.reason], ['over\n', 'silence'])
  await session.ok('process_signal', { process, signal: 'KILL' })
  const last = await session.ok('process_read', { process, cursor: third.cursor, wait: 20 })
  assert.deepEqual([last.state, last.exit_code, last.guest.output], ['ended', 137, ''])
  // Output stays where it was.
  assert.equal((await session.ok('process_read', { process })).guest.output, 'ready\ngot one\ngot two\nover\n')
}

export async function files_are_written_edited_and_read(test) {
  const session = await test.shared()
  const { sandbox } = session
  const path = '/srv/made/by/mcp.txt'
  const text = Array.from({ length: 300 }, (_, i) => `line ${i + 1} ü\n`).join('')
  const written = await session.ok('file_write', { sandbox, path, text, mode: '640' })
  assert.deepEqual([written.bytes, written.created], [Buffer.byteLength(text), true])
  assert.equal((await session.ok('file_write', { sandbox, path, text })).created, false)
  const edited = await session.ok('file_edit', { sandbox, path, old_text: 'line 200 ü', new_text: 'the line 200' })
  assert.deepEqual([edited.replaced, edited.first_line], [1, 200])
  const twice = await session.refused('file_edit', { sandbox, path, old_text: 'line 20', new_text: 'x' })
  assert.equal(twice.field, 'old_text')
  const changed = text.replace('line 200 ü', 'the line 200')
  assert.equal((await session.ok('file_read', { sandbox, path })).guest.text, changed)
  const part = await session.ok('file_read', { sandbox, path, first_line: 200, max_chars: 200 })
  assert.ok(part.guest.text.startsWith('the line 200\nline 201 ü\n'))
  const rest = await session.ok('file_read', { sandbox, path, cursor: part.next_cursor, max_chars: 100_000 })
  assert.ok(changed.endsWith(part.guest.text + rest.guest.text))
  assert.equal(rest.next_cursor, undefined)
  assert.equal(await session.output(`stat -c %a ${path}`, { sandbox }), '640\n')
}

export async function an_image_is_shown_and_binary_is_a_resource(test) {
  const session = await test.shared()
  const { sandbox } = session
  await session.ok('file_write', { sandbox, path: 'pixel.png', base64: png })
  const image = await session.call('file_read', { sandbox, path: 'pixel.png' })
  assert.equal(image.structuredContent.kind, 'image')
  assert.deepEqual(image.content.filter(test.isOfGuest).map((c) => [c.type, c.mimeType, c.data]), [['image', 'image/png', png]])
  const bytes = Buffer.from([0, 1, 2, 255, 0, 254]).toString('base64')
  await session.ok('file_write', { sandbox, path: 'some.bin', base64: bytes })
  const binary = await session.call('file_read', { sandbox, path: 'some.bin' })
  assert.equal(binary.structuredContent.kind, 'binary')
  assert.deepEqual(binary.content.filter(test.isOfGuest).map((c) => [c.type, c.resource.blob]), [['resource', bytes]])
}

export async function files_are_listed_and_searched(test) {
  const session = await test.shared()
  const { sandbox } = session
  const command = 'mkdir -p /srv/tree/a/b; cd /srv/tree; for i in 1 2 3 4 5; do echo "Needle $i (x)" > a/f$i.txt; done; touch a/b/deep.py'
  await session.output(command, { sandbox })
  const [found, pages] = [[], []]
  let after
  do {
    const page = await session.ok('file_list', { sandbox, path: '/srv/tree', depth: 3, limit: 3, ...after ? { after } : {} })
    pages.push(page.guest.entries.length)
    found.push(...page.guest.entries)
    after = page.guest.next
  } while (after)
  assert.deepEqual(pages, [3, 3, 2])
  assert.deepEqual(
    found.map((e) => [e.path.split('/').slice(-1)[0], e.kind]).sort(),
    [['a', 'directory'], ['b', 'directory'], ['deep.py', 'file'], ...[1, 2, 3, 4, 5].map((i) => [`f${i}.txt`, 'file'])])
  const search = (args) => session.ok('file_search', { sandbox, path: '/srv/tree', ...args })
  // A pattern has groups, and plain text has brackets.
  assert.equal((await search({ pattern: 'Needle 3 (x)' })).count, 0)
  assert.equal((await search({ pattern: 'needle [34] [(]x', ignore_case: true })).count, 2)
  const literal = await search({ pattern: 'NEEDLE 3 (x)', literal: true, ignore_case: true })
  assert.deepEqual(literal.guest.matches.map((m) => [m.path, m.line, m.text]), [['/srv/tree/a/f3.txt', 1, 'Needle 3 (x)']])
  const few = await search({ pattern: 'Needle', limit: 2 })
  assert.deepEqual([few.count, few.more], [2, true])
  const whole = await search({ path: '/', name: 'f3.txt' })
  assert.deepEqual(whole.guest.matches.map((m) => m.path), ['/srv/tree/a/f3.txt'])
  assert.equal((await search({ path: '/', pattern: 'Needle 3 .x.', name: 'f?.txt' })).count, 1)
  await session.output('cd /srv/tree && mkdir -p .git && echo "Needle of git" > .git/config', { sandbox })
  assert.equal((await search({ pattern: 'Needle of git' })).count, 0)
  assert.equal((await search({ path: '/srv/tree/.git', pattern: 'Needle of git' })).count, 1)
  assert.equal((await search({ path: '/srv/tree/.git', name: 'config' })).count, 1)
  const named = await search({ name: '*.py' })
  assert.deepEqual(named.guest.matches.map((m) => m.path), ['/srv/tree/a/b/deep.py'])
}

export async function a_port_is_reached_by_its_link(test) {
  const session = await test.shared()
  const { sandbox } = session
  await session.ok('file_write', { sandbox, path: '/srv/www/index.html', text: '<p>served</p>' })
  const { process } = await session.ok('process_start', { sandbox, command: 'exec python3 -u -m http.server 8080', cwd: '/srv/www' })
  await session.ok('process_read', { process, until_text: 'Serving HTTP', wait: 30 })
  const link = await session.ok('port_link', { sandbox, port: 8080, lifetime: 60 })
  assert.ok(Date.parse(link.expires_at) > Date.now())
  assert.equal(await pageOf(link.url), '<p>served</p>')
  assert.notEqual(await pageOf(link.url.split('?')[0]), '<p>served</p>')
  await session.ok('process_signal', { process })
}

export async function sandboxes_are_made_listed_and_ended(test) {
  const session = await test.shared()
  const made = await session.ok('sandbox_create', { egress: 'none', idle_timeout: 300, lifetime: 1200 })
  assert.deepEqual([made.egress, made.idle_timeout], ['none', 300])
  assert.ok(Math.abs(Date.parse(made.ends_at) - Date.now() - 1_200_000) < 120_000)
  const listed = (await session.ok('sandbox_list')).sandboxes
  const own = listed.find((s) => s.sandbox === made.sandbox)
  assert.deepEqual([own.idle_timeout, own.made_through_mcp, own.state], [300, true, 'running'])
  assert.ok(listed.some((s) => s.sandbox === session.sandbox))
  assert.deepEqual(await session.ok('sandbox_end', { sandbox: made.sandbox }), { sandbox: made.sandbox, ended: true })
  assert.ok(!(await session.sandboxes()).includes(made.sandbox))
  const gone = await session.refused('run', { sandbox: made.sandbox, command: 'true' })
  assert.match(gone.code, /^sandbox_(gone|not_found)$/)
}

export async function a_sandbox_that_mcp_did_not_make_is_not_ended(test) {
  const session = await test.shared()
  const made = await fetch(`${test.url}/sandboxes`, {
    method: 'POST', headers: { 'X-API-Key': test.key, 'Content-Type': 'application/json' }, body: '{}',
  })
  const { sandbox_id: sandbox } = await made.json()
  const own = (await session.ok('sandbox_list')).sandboxes.find((s) => s.sandbox === sandbox)
  assert.equal(own.made_through_mcp, false)
  assert.equal((await session.refused('sandbox_end', { sandbox })).field, 'sandbox')
  assert.equal(await session.output('echo used', { sandbox }), 'used\n')
  await fetch(`${test.url}/sandboxes/${sandbox}`, { method: 'DELETE', headers: { 'X-API-Key': test.key } })
}

export async function every_tool_was_called(test) {
  assert.deepEqual([...(await test.shared()).called].sort(), names)
}

// Follows a link as a browser does: its name leads to this host, and the first answer sets a cookie.
export const pageOf = async (link) => {
  const first = await get(link)
  if (first.status < 300 || first.status > 399) return first.body
  const cookies = (first.headers['set-cookie'] ?? []).map((c) => c.split(';')[0]).join('; ')
  return (await get(new URL(first.headers.location, link), { Cookie: cookies })).body
}

const get = (link, headers = {}) => new Promise((resolve, reject) => {
  const { host, port, pathname, search } = new URL(link)
  request({ host: '127.0.0.1', port, path: pathname + search, headers: { Host: host, ...headers } }, (answer) => {
    let body = ''
    answer.setEncoding('utf8')
    answer.on('data', (piece) => { body += piece })
    answer.on('end', () => resolve({ status: answer.statusCode, headers: answer.headers, body }))
  }).on('error', reject).end()
})
