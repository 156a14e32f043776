import assert from 'node:assert/strict'
import { pause, until } from '../../Pandora.TestHost/Scenarios/wait.mjs'

// Gives a sandbox a time to live, by a call, and requires that its description says so. The time begins while the call is under way.
async function gives(sandbox, milliseconds, call) {
  const before = Date.now()
  await call()
  const { endAt } = await sandbox.getInfo()
  const [least, most] = [before + milliseconds - 1000, Date.now() + milliseconds + 1000]
  assert.ok(endAt.getTime() >= least && endAt.getTime() <= most, `${endAt.getTime()} is not between ${least} and ${most}`)
}

export async function a_sandbox_has_what_it_was_created_with({ create, sdk }) {
  const sandbox = await create({ metadata: { owner: 'me', 'with space': 'a&b=c' }, timeoutMs: 61_500 })
  assert.match(sandbox.sandboxId, /^[a-z0-9]+$/)
  const info = await sandbox.getInfo()
  assert.equal(info.sandboxId, sandbox.sandboxId)
  assert.deepEqual(info.metadata, { owner: 'me', 'with space': 'a&b=c' })
  assert.equal(info.state, 'running')
  assert.equal(info.name, 'base')
  assert.ok(info.cpuCount >= 1 && info.memoryMB >= 64)
  assert.equal(Math.round((info.endAt - info.startedAt) / 1000), 62)
  assert.deepEqual((await sdk.Sandbox.getInfo(sandbox.sandboxId)).startedAt, info.startedAt)
}

export async function a_template_is_chosen_by_its_name({ sdk }) {
  const sandbox = await sdk.Sandbox.create('base', { timeoutMs: 60_000 })
  assert.equal(await sandbox.kill(), true)
  await assert.rejects(sdk.Sandbox.create('there-is-no-such-template'), /there-is-no-such-template/)
}

export async function a_sandbox_is_killed_once({ create, kill, sdk }) {
  const sandbox = await create()
  assert.equal(await sandbox.isRunning(), true)
  assert.equal(await kill(sandbox), true)
  assert.equal(await sandbox.kill(), false)
  assert.equal(await sdk.Sandbox.kill(sandbox.sandboxId), false)
  assert.equal(await sandbox.isRunning(), false)
  await assert.rejects(sandbox.getInfo(), sdk.NotFoundError)
  await assert.rejects(sdk.Sandbox.connect(sandbox.sandboxId), sdk.NotFoundError)
  await assert.rejects(sandbox.setTimeout(60_000), sdk.NotFoundError)
}

export async function a_sandbox_that_never_was_is_missing({ sdk }) {
  assert.equal(await sdk.Sandbox.kill('ineverwas00000000000'), false)
  await assert.rejects(sdk.Sandbox.getInfo('ineverwas00000000000'), sdk.NotFoundError)
}

export async function another_client_can_connect({ sdk, shared }) {
  const first = await shared()
  await first.files.write('note', 'from the first')
  const second = await sdk.Sandbox.connect(first.sandboxId)
  assert.equal(second.sandboxId, first.sandboxId)
  assert.equal(await second.files.read('note'), 'from the first')
  assert.equal((await second.commands.run('echo works')).stdout, 'works\n')
}

export async function connecting_extends_the_time_and_never_shortens_it({ sdk, shared }) {
  const sandbox = await shared()
  await sandbox.setTimeout(200_000)
  const { endAt } = await sandbox.getInfo()
  await sdk.Sandbox.connect(sandbox.sandboxId, { timeoutMs: 10_000 })
  assert.deepEqual((await sandbox.getInfo()).endAt, endAt)
  await gives(sandbox, 400_000, () => sdk.Sandbox.connect(sandbox.sandboxId, { timeoutMs: 400_000 }))
}

export async function the_time_can_be_made_longer_and_shorter({ shared }) {
  const sandbox = await shared()
  // A day is allowed; the sandbox ends a day after its beginning in any case.
  await sandbox.setTimeout(86_400_000)
  for (const milliseconds of [3_600_000, 43_200_000, 300_000]) {
    await gives(sandbox, milliseconds, () => sandbox.setTimeout(milliseconds))
  }
}

export async function a_sandbox_ends_at_its_time({ create, sdk }) {
  const sandbox = await create()
  const start = performance.now()
  await sandbox.setTimeout(15_000)
  assert.equal(await sandbox.isRunning(), true)
  await until(async () => !await sandbox.isRunning(), 'its end', 60_000)
  assert.ok(performance.now() - start > 14_000)
  await assert.rejects(sandbox.commands.run('true'), sdk.SandboxNotFoundError)
}

export async function a_time_that_was_extended_does_not_end_the_sandbox({ create }) {
  const sandbox = await create()
  await sandbox.setTimeout(15_000)
  await sandbox.setTimeout(120_000)
  await pause(16_000)
  assert.equal(await sandbox.isRunning(), true)
}

export async function a_time_of_more_than_a_day_is_refused({ create }) {
  await assert.rejects(create({ timeoutMs: 90_000_000 }), /400.*24 hours/s)
}

export async function a_command_says_when_its_sandbox_was_killed({ create, kill, sdk }) {
  const sandbox = await create()
  const running = sandbox.commands.run('sleep 3004', { timeoutMs: 60_000 })
  const seen = assert.rejects(running, sdk.TimeoutError)
  await until(async () => (await sandbox.commands.list()).length > 0, 'the start')
  await kill(sandbox)
  await seen
}

export async function usage_is_recorded({ sdk, shared }) {
  const sandbox = await shared()
  const metrics = await until(async () => {
    const found = await sandbox.getMetrics()
    return found.length > 0 && found
  }, 'the first record')
  const [first] = metrics
  assert.ok(first.cpuCount >= 1 && first.cpuUsedPct >= 0)
  assert.ok(first.memUsed > 0 && first.memUsed <= first.memTotal)
  assert.ok(first.diskUsed >= 0 && first.diskTotal > 0)
  assert.ok(Math.abs(first.timestamp.getTime() - Date.now()) < 120_000)
  const end = new Date(Date.now() - 3_600_000)
  assert.deepEqual(await sdk.Sandbox.getMetrics(sandbox.sandboxId, { start: new Date(end - 60_000), end }), [])
}

export async function sandboxes_do_not_see_each_other({ create, shared }) {
  const [first, second] = [await shared(), await create()]
  await first.files.write('/tmp/secret', 'of the first')
  assert.equal(await second.files.exists('/tmp/secret'), false)
}
