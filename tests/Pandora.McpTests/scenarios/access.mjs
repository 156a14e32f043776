import assert from 'node:assert/strict'
import { request } from 'node:http'
import { post } from './fixture.mjs'

const list = { jsonrpc: '2.0', id: 1, method: 'tools/list', params: {} }

// A request with headers that fetch sets itself. Its status.
export const statusOf = (url, headers) => new Promise((resolve, reject) => {
  const { hostname, port } = new URL(url)
  const all = { 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream', ...headers }
  request({ hostname, port, path: '/mcp', method: 'POST', headers: all }, (answer) => {
    answer.resume()
    answer.on('end', () => resolve(answer.statusCode))
  }).on('error', reject).end(JSON.stringify(list))
})

const refusal = [400, 403, 421]

export async function a_request_without_a_key_or_with_a_wrong_one_is_refused(test) {
  assert.equal((await post(list)).status, 200)
  for (const key of ['', `pnd_${'x'.repeat(40)}`]) {
    const answer = await post(list, { key })
    assert.equal(answer.status, 401)
    assert.ok(!answer.text.includes('run'), answer.text)
  }
  for (const method of ['GET', 'DELETE']) {
    assert.equal((await fetch(`${test.url}/mcp`, { method })).status, 401, method)
  }
}

export async function a_foreign_host_or_origin_is_refused(test) {
  const key = { Authorization: `Bearer ${test.key}` }
  assert.equal(await statusOf(test.url, key), 200)
  assert.equal(await statusOf(test.url, { ...key, Host: 'localhost:8000' }), 200)
  assert.ok(refusal.includes(await statusOf(test.url, { ...key, Host: 'evil.example' })))
  assert.ok(refusal.includes(await statusOf(test.url, { ...key, Host: 'evil.example:8000' })))
  for (const origin of ['http://evil.example', 'https://127.0.0.1.evil.example', 'null', 'http://127.0.0.1:9999']) {
    assert.ok(refusal.includes(await statusOf(test.url, { ...key, Origin: origin })), origin)
  }
}

export async function a_key_of_another_project_sees_nothing(test) {
  const session = await test.shared()
  const { sandbox } = session
  const { process } = await session.ok('process_start', { sandbox, command: 'echo secret; sleep 300' })
  const other = await test.connect({ key: test.otherKey })
  assert.deepEqual((await other.ok('sandbox_list')), { sandboxes: [], total: 0 })
  const calls = [
    ['run', { sandbox, command: 'true' }], ['process_start', { sandbox, command: 'true' }], ['process_read', { process }],
    ['process_input', { process, text: 'x' }], ['process_signal', { process }], ['file_read', { sandbox, path: '/etc/hostname' }],
    ['file_write', { sandbox, path: '/srv/x', text: 'x' }], ['file_edit', { sandbox, path: '/srv/x', old_text: 'a', new_text: 'b' }],
    ['file_list', { sandbox }], ['file_search', { sandbox, pattern: 'x' }], ['port_link', { sandbox, port: 80 }],
    ['sandbox_end', { sandbox }],
  ]
  const unknown = sandbox.replaceAll(/./g, 'x')
  for (const [name, args] of calls) {
    const refused = await other.refused(name, args)
    assert.equal(refused.code, 'sandbox_not_found', name)
    assert.ok(!refused.text.includes('secret'))
    // It is as if it did not exist.
    const without = Object.fromEntries(Object.entries(args).map(([n, v]) => [n, typeof v === 'string' ? v.replace(sandbox, unknown) : v]))
    assert.equal((await other.refused(name, without)).text.replaceAll(unknown, sandbox), refused.text, name)
  }
  assert.deepEqual(await other.sandboxes(), [])
  assert.equal((await session.ok('process_read', { process, until_text: 'secret' })).state, 'running')
  const own = await other.ok('run', { command: 'echo own' })
  assert.ok(!(await session.sandboxes()).includes(own.sandbox))
  await other.ok('sandbox_end', { sandbox: own.sandbox })
}
