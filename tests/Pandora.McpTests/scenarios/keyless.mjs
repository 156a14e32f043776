// A server without keys, on a person's own machine. Its sandboxes end after 20 s without use.
import assert from 'node:assert/strict'
import { until } from '../../Pandora.TestHost/Scenarios/wait.mjs'
import { statusOf } from './access.mjs'
import { Bridge } from './bridge.mjs'

export async function a_foreign_host_or_origin_is_refused(test) {
  assert.equal(await statusOf(test.url, {}), 200)
  const origin = { Origin: 'http://evil.example' }
  for (const headers of [{ Host: 'evil.example' }, origin, { Host: 'evil.example', ...origin }]) {
    assert.ok([400, 403, 421].includes(await statusOf(test.url, headers)), JSON.stringify(headers))
  }
}

export async function no_key_is_needed(test) {
  const session = await test.connect()
  const answer = await session.ok('run', { command: 'echo hello' })
  assert.deepEqual([answer.guest.output, answer.new_sandbox], ['hello\n', true])
  await session.ok('sandbox_end', { sandbox: answer.sandbox })
}

export async function a_process_that_is_killed_leaves_a_sandbox_that_ends_when_it_is_idle(test) {
  const session = await test.connect()
  const bridge = await Bridge.start(test)
  const { structuredContent: { sandbox } } = await bridge.call('run', { command: 'true' })
  const [left] = (await session.ok('sandbox_list')).sandboxes
  assert.deepEqual([left.sandbox, left.idle_timeout], [sandbox, 20])
  bridge.signal('SIGKILL')
  await bridge.ended
  assert.deepEqual(await session.sandboxes(), [sandbox])
  await until(async () => (await session.sandboxes()).length === 0, 'the end of the sandbox', 60_000)
}
