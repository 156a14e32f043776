import assert from 'node:assert/strict'
import { until } from '../../Pandora.TestHost/Scenarios/wait.mjs'

const bytes = (text) => new TextEncoder().encode(text)

async function open(sandbox, options = {}) {
  const decoder = new TextDecoder()
  const seen = { text: '' }
  const terminal = await sandbox.pty.create({
    cols: 80, rows: 24, timeoutMs: 60_000, ...options, onData: (data) => { seen.text += decoder.decode(data, { stream: true }) },
  })
  return { seen, terminal }
}

export async function a_terminal_runs_what_is_typed({ shared }) {
  const sandbox = await shared()
  const { seen, terminal } = await open(sandbox)
  await sandbox.pty.sendInput(terminal.pid, bytes('echo sum-$((40+2)); test -t 0 && echo is-a-$((1))-terminal\n'))
  await until(() => seen.text.includes('sum-42') && seen.text.includes('is-a-1-terminal'), 'the output')
  await sandbox.pty.sendInput(terminal.pid, bytes('exit 0\n'))
  assert.equal((await terminal.wait()).exitCode, 0)
}

export async function a_terminal_has_the_size_that_is_asked_for({ shared }) {
  const sandbox = await shared()
  const { seen, terminal } = await open(sandbox, { cols: 91, rows: 31 })
  await sandbox.pty.sendInput(terminal.pid, bytes('stty size\n'))
  await until(() => seen.text.includes('31 91'), 'the first size')
  await sandbox.pty.resize(terminal.pid, { cols: 123, rows: 45 })
  await sandbox.pty.sendInput(terminal.pid, bytes('stty size\n'))
  await until(() => seen.text.includes('45 123'), 'the second size')
  assert.equal(await sandbox.pty.kill(terminal.pid), true)
}

export async function a_terminal_has_variables_a_directory_and_a_user({ shared }) {
  const sandbox = await shared()
  const { seen, terminal } = await open(sandbox, { envs: { COLOUR: 'green' }, cwd: '/tmp', user: 'root' })
  await sandbox.pty.sendInput(terminal.pid, bytes('echo "[$COLOUR $PWD $(id -un) $TERM]"\n'))
  await until(() => seen.text.includes('[green /tmp root xterm-256color]'), 'the line')
  await sandbox.pty.kill(terminal.pid)
}

export async function the_exit_code_of_a_shell_is_that_of_the_terminal({ shared }) {
  const sandbox = await shared()
  const { terminal } = await open(sandbox)
  await sandbox.pty.sendInput(terminal.pid, bytes('exit 9\n'))
  await assert.rejects(terminal.wait(), { exitCode: 9 })
}

export async function a_terminal_that_was_killed_is_missing({ shared }) {
  const sandbox = await shared()
  const { terminal } = await open(sandbox)
  assert.equal(await sandbox.pty.kill(terminal.pid), true)
  await assert.rejects(terminal.wait())
  assert.equal(await sandbox.pty.kill(terminal.pid), false)
}

export async function a_client_can_connect_to_a_terminal({ shared }) {
  const sandbox = await shared()
  const { terminal } = await open(sandbox)
  await terminal.disconnect()
  let text = ''
  const again = await sandbox.pty.connect(terminal.pid, { onData: (data) => { text += new TextDecoder().decode(data) } })
  await sandbox.pty.sendInput(terminal.pid, bytes('echo again-$((3*3))\n'))
  await until(() => text.includes('again-9'), 'the output')
  assert.equal(await again.kill(), true)
}
