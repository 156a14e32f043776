// What happens during a call: progress, cancellation, and the longest wait.
import assert from 'node:assert/strict'
import { pause, until } from '../../Pandora.TestHost/Scenarios/wait.mjs'

let marks = 0

// A command that is found by its mark for as long as it lives.
const marked = () => {
  const mark = `mark${process.pid}x${++marks}`
  return { mark, command: `echo begun; exec -a ${mark} sleep 300` }
}

const lives = async (session, mark) =>
  (await session.ok('run', { sandbox: session.sandbox, command: `pgrep -x -f '${mark} 300'` })).exit_code === 0

export async function progress_has_the_last_line_as_the_guests(test) {
  const session = await test.shared()
  const messages = []
  const answer = await session.ok(
    'run', { sandbox: session.sandbox, command: 'for i in 1 2 3 4; do /usr/bin/printf "old $i\\nline $i\\n"; sleep 1.3; done' },
    { onprogress: (p) => messages.push(p) })
  assert.equal(answer.exit_code, 0)
  const texts = messages.map((p) => p.message)
  assert.ok(texts.length >= 2 && texts.length <= 6, JSON.stringify(texts))
  assert.ok(texts.every((t) => /^guest: line [1-4]$/.test(t)), JSON.stringify(texts))
  assert.ok(messages.every((p, i) => i === 0 || p.progress > messages[i - 1].progress), JSON.stringify(messages))
}

export async function a_call_without_a_wish_for_progress_gets_none(test) {
  const session = await test.shared()
  const seen = []
  const { onmessage } = session.client.transport
  session.client.transport.onmessage = (message, extra) => {
    seen.push(message.method)
    onmessage(message, extra)
  }
  await session.output('for i in 1 2 3; do echo $i; sleep 1; done', { sandbox: session.sandbox })
  session.client.transport.onmessage = onmessage
  // The answer itself came this way.
  assert.ok(seen.length > 0)
  assert.deepEqual(seen.filter(Boolean), [])
}

export async function a_call_that_is_cancelled_kills_its_command(test) {
  const session = await test.shared()
  const { mark, command } = marked()
  const stop = new AbortController()
  const call = session.call('run', { sandbox: session.sandbox, command }, { signal: stop.signal }).then(() => 'ended', () => 'cancelled')
  await until(() => lives(session, mark), 'the command')
  stop.abort('enough')
  assert.equal(await call, 'cancelled')
  if (test.way === 'http' && !test.isNew) {
    // The revisions before 2026-07-28 cancel by a message of its own, which a server without sessions cannot assign to a call.
    await pause(3000)
    assert.ok(await lives(session, mark))
    await session.ok('run', { sandbox: session.sandbox, command: `pkill -x -f '${mark} 300'` })
  }
  await until(async () => !await lives(session, mark), 'its end')
}

export async function a_call_whose_client_goes_away_kills_its_command(test) {
  const session = await test.shared()
  const { mark, command } = marked()
  const other = await test.connect()
  const call = other.call('run', { sandbox: session.sandbox, command }).then(() => 'ended', () => 'gone')
  await until(() => lives(session, mark), 'the command')
  await other.close()
  assert.equal(await call, 'gone')
  await until(async () => !await lives(session, mark), 'its end')
}

export async function a_command_that_runs_on_gets_a_handle_within_50_seconds(test) {
  const session = await test.shared()
  const { mark, command } = marked()
  const start = performance.now()
  const [answer, short] = await Promise.all([
    session.ok('run', { sandbox: session.sandbox, command }),
    session.ok('run', { sandbox: session.sandbox, command: 'echo one; sleep 30; echo two', wait: 1 }),
  ])
  const seconds = (performance.now() - start) / 1000
  // The server answers after 45 s, and the way of the answer may take longer than the 5 s that a host has left: a client waits for 60 s.
  assert.ok(seconds > 40 && seconds < 60, `${seconds} s`)
  assert.deepEqual([answer.state, answer.reason, answer.guest.output, answer.exit_code], ['running', 'time', 'begun\n', undefined])
  assert.ok(await lives(session, mark))
  await session.ok('process_signal', { process: answer.process, signal: 'TERM' })
  const end = await session.ok('process_read', { process: answer.process, cursor: answer.cursor, wait: 30 })
  assert.deepEqual([end.state, end.exit_code], ['ended', 143])
  assert.deepEqual([short.state, short.reason], ['running', 'time'])
  // Reads to its end, because it never writes this text. A slow guest may have written nothing within the second.
  const rest = await session.ok('process_read', { process: short.process, cursor: short.cursor, until_text: 'three', wait: 30 })
  assert.deepEqual([rest.state, rest.exit_code, short.guest.output + rest.guest.output], ['ended', 0, 'one\ntwo\n'])
}
a_command_that_runs_on_gets_a_handle_within_50_seconds.isPatient = true

export async function calls_of_one_client_do_not_wait_for_each_other(test) {
  const session = await test.shared()
  const { mark, command } = marked()
  let isAnswered = false
  const slow = session.ok('run', { sandbox: session.sandbox, command }).finally(() => { isAnswered = true })
  await until(() => lives(session, mark), 'the command')
  for (let i = 0; i < 5; i++) assert.equal(await session.output(`echo ${i}`, { sandbox: session.sandbox }), `${i}\n`)
  assert.equal(isAnswered, false)
  await session.output(`pkill -x -f '${mark} 300'`, { sandbox: session.sandbox })
  const { state, exit_code: code, guest: { output } } = await slow
  assert.deepEqual([state, code, output], ['ended', 143, 'begun\n'])
}
