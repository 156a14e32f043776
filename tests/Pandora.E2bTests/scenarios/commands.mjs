import assert from 'node:assert/strict'
import { pause, until } from '../../Pandora.TestHost/Scenarios/wait.mjs'

export async function a_command_returns_its_output_and_exit_code({ shared }) {
  const result = await (await shared()).commands.run('echo out; echo err >&2')
  assert.equal(result.stdout, 'out\n')
  assert.equal(result.stderr, 'err\n')
  assert.equal(result.exitCode, 0)
}

export async function a_command_that_fails_throws_with_its_output({ sdk, shared }) {
  const { commands } = await shared()
  await assert.rejects(commands.run('echo half; echo why >&2; exit 7'), (error) => {
    assert.ok(error instanceof sdk.CommandExitError)
    assert.deepEqual([error.exitCode, error.stdout, error.stderr], [7, 'half\n', 'why\n'])
    return true
  })
  await assert.rejects(commands.run('no-such-program'), { exitCode: 127 })
}

export async function output_arrives_while_the_command_runs({ shared }) {
  const { commands } = await shared()
  const pieces = []
  let early = -1
  const handle = await commands.run('echo first; read line; echo "second $line"', {
    background: true, stdin: true, onStdout: (data) => { pieces.push(data) },
  })
  await until(() => pieces.join('') === 'first\n', 'the first line')
  early = pieces.length
  await commands.sendStdin(handle.pid, 'x\n')
  assert.equal((await handle.wait()).stdout, 'first\nsecond x\n')
  assert.ok(pieces.length > early)
}

export async function both_streams_have_callbacks({ shared }) {
  let [out, err] = ['', '']
  await (await shared()).commands.run('for i in 1 2 3; do echo o$i; echo e$i >&2; done', {
    onStdout: (data) => { out += data }, onStderr: (data) => { err += data },
  })
  assert.deepEqual([out, err], ['o1\no2\no3\n', 'e1\ne2\ne3\n'])
}

export async function characters_that_are_cut_between_pieces_stay_whole({ shared }) {
  const { commands } = await shared()
  const result = await commands.run("printf '\\xe2\\x82'; sleep 0.3; printf '\\xac'; printf 'ü漢😀'")
  assert.equal(result.stdout, '€ü漢😀')
}

export async function large_output_arrives_whole({ shared }) {
  const { stdout } = await (await shared()).commands.run('seq 1 200000')
  assert.equal(stdout.length, 1_288_895)
  assert.ok(stdout.endsWith('199999\n200000\n'))
}

export async function a_command_may_print_nothing({ shared }) {
  const result = await (await shared()).commands.run('true')
  assert.deepEqual([result.stdout, result.stderr, result.exitCode], ['', '', 0])
}

export async function variables_of_a_command_are_its_own({ shared }) {
  const { commands } = await shared()
  const envs = { GREETING: 'a "b" $c\nd', EMPTY: '' }
  assert.equal((await commands.run('printf %s "$GREETING[${EMPTY-unset}]"', { envs })).stdout, 'a "b" $c\nd[]')
  assert.equal((await commands.run('echo ${GREETING-unset}')).stdout, 'unset\n')
}

export async function variables_of_a_sandbox_reach_its_commands({ create }) {
  const { commands } = await create({ envs: { PLACE: 'sandbox', OTHER: 'kept' } })
  assert.equal((await commands.run('echo $PLACE $OTHER')).stdout, 'sandbox kept\n')
  assert.equal((await commands.run('echo $PLACE $OTHER', { envs: { PLACE: 'command' } })).stdout, 'command kept\n')
}

export async function the_directory_is_the_users_home_unless_given({ shared }) {
  const { commands } = await shared()
  assert.equal((await commands.run('pwd')).stdout, '/home/user\n')
  assert.equal((await commands.run('pwd', { cwd: '/tmp' })).stdout, '/tmp\n')
}

export async function a_directory_that_is_missing_is_an_error({ sdk, shared }) {
  await assert.rejects((await shared()).commands.run('pwd', { cwd: '/nowhere' }), sdk.InvalidArgumentError)
}

export async function the_user_can_be_chosen({ sdk, shared }) {
  const { commands } = await shared()
  assert.equal((await commands.run('id -un; echo $HOME')).stdout, 'user\n/home/user\n')
  assert.equal((await commands.run('id -un; echo $HOME', { user: 'root' })).stdout, 'root\n/root\n')
  assert.equal((await commands.run('sudo id -u')).stdout, '0\n')
  await assert.rejects(commands.run('id', { user: 'stranger' }), sdk.AuthenticationError)
}

export async function input_can_be_sent_and_closed({ shared }) {
  const { commands } = await shared()
  const handle = await commands.run('cat; echo done', { background: true, stdin: true })
  await commands.sendStdin(handle.pid, 'one\n')
  await handle.sendStdin(new TextEncoder().encode('two\n'))
  await handle.closeStdin()
  assert.equal((await handle.wait()).stdout, 'one\ntwo\ndone\n')
}

export async function a_command_without_input_reads_its_end({ shared }) {
  assert.equal((await (await shared()).commands.run('cat; echo end')).stdout, 'end\n')
}

export async function commands_in_the_background_are_listed_until_they_are_killed({ shared }) {
  const { commands } = await shared()
  const handle = await commands.run('sleep 3001', { background: true })
  const listed = (await commands.list()).find((p) => p.pid === handle.pid)
  assert.ok(listed, 'the command is listed')
  assert.ok([listed.cmd, ...listed.args].join(' ').includes('sleep 3001'))
  assert.equal(await commands.kill(handle.pid), true)
  await assert.rejects(handle.wait())
  await until(async () => !(await commands.list()).some((p) => p.pid === handle.pid), 'the end in the list')
  assert.equal(await commands.kill(handle.pid), false)
}

export async function a_handle_kills_its_command({ sdk, shared }) {
  const handle = await (await shared()).commands.run('sleep 3002', { background: true })
  assert.equal(await handle.kill(), true)
  await assert.rejects(handle.wait(), sdk.CommandExitError)
}

export async function a_client_can_connect_to_a_command({ shared }) {
  const { commands } = await shared()
  const first = await commands.run('read line; echo "got $line"; exit 3', { background: true, stdin: true })
  await first.disconnect()
  const second = await commands.connect(first.pid)
  assert.equal(second.pid, first.pid)
  await commands.sendStdin(first.pid, 'it\n')
  await assert.rejects(second.wait(), { exitCode: 3, stdout: 'got it\n' })
}

export async function connecting_to_a_command_that_is_missing_is_an_error({ sdk, shared }) {
  await assert.rejects((await shared()).commands.connect(999_999), sdk.NotFoundError)
}

export async function a_command_survives_the_client_that_disconnects({ shared }) {
  const { commands } = await shared()
  const handle = await commands.run('sleep 1; echo survived > /tmp/survived', { background: true })
  await handle.disconnect()
  await until(async () => (await commands.run('cat /tmp/survived 2> /dev/null || true')).stdout === 'survived\n', 'the file')
}

export async function a_command_ends_at_its_timeout({ sdk, shared }) {
  const { commands } = await shared()
  const start = performance.now()
  await assert.rejects(commands.run('sleep 3003', { timeoutMs: 1000 }), sdk.TimeoutError)
  assert.ok(performance.now() - start >= 900)
  await until(async () => (await commands.run('pgrep -fx "sleep 3003" || true')).stdout === '', 'the end of the process')
}

export async function a_command_without_timeout_is_not_ended({ shared }) {
  const { commands } = await shared()
  const handle = await commands.run('sleep 1.5; echo end', { background: true, timeoutMs: 0 })
  await pause(1000)
  assert.equal((await handle.wait()).stdout, 'end\n')
}

export async function many_commands_run_at_once({ shared }) {
  const { commands } = await shared()
  const results = await Promise.all(Array.from({ length: 12 }, (_, i) => commands.run(`sleep 0.2; echo ${i}`)))
  assert.deepEqual(results.map((r) => r.stdout), Array.from({ length: 12 }, (_, i) => `${i}\n`))
}
