import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { pause } from '../../Pandora.TestHost/Scenarios/wait.mjs'

let made

// Runs a program to its end. Input that is undefined is nothing at all, as in a script that runs in the background.
function run(program, args, { input, typed } = {}) {
  const child = spawn(program, args, { stdio: [input === undefined && !typed ? 'ignore' : 'pipe', 'pipe', 'pipe'] })
  const output = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr']) child[name].on('data', (data) => { output[name] += data })
  if (input !== undefined) child.stdin.end(input)
  const ended = new Promise((resolve, reject) => {
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, ...output }))
  })
  return typed ? typed(child.stdin, output).then(() => ended) : ended
}

const programOf = ({ clients }) => join(clients, 'node_modules/.bin/e2b')
const cli = (test, args, options) => run(programOf(test), args, options)

async function done(test, args, options) {
  const result = await cli(test, args, options)
  assert.equal(result.code, 0, `${args.join(' ')}: ${result.stdout}${result.stderr}`)
  return result.stdout
}

// The sandbox of this file: the first scenario makes it, and the last one ends it.
const id = (test) => (made ??= (async () => {
  const output = await done(test, ['sandbox', 'create', 'base', '--detach', '--timeout', '600'])
  const found = output.match(/\b[a-z0-9]{16,}\b/)
  assert.ok(found, output)
  return found[0]
})())

export async function a_sandbox_is_created(test) {
  assert.match(await id(test), /^[a-z0-9]+$/)
}

export async function sandboxes_are_listed(test) {
  const listed = JSON.parse(await done(test, ['sandbox', 'list', '--format', 'json']))
  assert.deepEqual(listed.filter((s) => s.state === 'running').map((s) => s.sandboxId), [await id(test)])
  assert.ok((await done(test, ['sandbox', 'list'])).includes(await id(test)))
}

export async function a_command_prints_and_its_exit_code_is_passed_on(test) {
  assert.equal(await done(test, ['sandbox', 'exec', await id(test), 'echo hi']), 'hi\n')
  const failed = await cli(test, ['sandbox', 'exec', await id(test), 'echo no >&2; exit 4'])
  assert.deepEqual([failed.code, failed.stdout], [4, ''])
  assert.ok(failed.stderr.includes('no\n'))
}

export async function a_command_reads_what_is_piped_to_it(test) {
  assert.equal(await done(test, ['sandbox', 'exec', await id(test), 'tr a-z A-Z'], { input: 'piped\n' }), 'PIPED\n')
}

export async function a_command_has_a_user_a_directory_and_variables(test) {
  const options = ['--user', 'root', '--cwd', '/tmp', '--env', 'COLOUR=red']
  const output = await done(test, ['sandbox', 'exec', ...options, await id(test), 'echo $(id -un) $PWD $COLOUR'])
  assert.equal(output, 'root /tmp red\n')
}

export async function a_sandbox_is_described(test) {
  const info = JSON.parse(await done(test, ['sandbox', 'info', '--format', 'json', await id(test)]))
  assert.equal(info.sandboxId, await id(test))
  assert.match(await done(test, ['sandbox', 'info', await id(test)]), /State: running/)
}

export async function logs_and_metrics_are_shown(test) {
  assert.match(await done(test, ['sandbox', 'logs', await id(test)]), /sandbox created/)
  await done(test, ['sandbox', 'metrics', await id(test)])
}

export async function templates_are_listed(test) {
  const templates = JSON.parse(await done(test, ['template', 'list', '--format', 'json']))
  assert.ok(templates.some((t) => t.names?.includes('base') || t.aliases?.includes('base')), JSON.stringify(templates))
}

export async function a_terminal_is_connected(test) {
  // Its own terminal has no size here: the server gives the guest's the usual one.
  const command = `exec '${programOf(test)}' sandbox connect ${await id(test)}`
  const { stdout } = await run('script', ['-qec', command, '/dev/null'], {
    async typed(stdin, output) {
      // The shell's prompt says that the terminal is there.
      for (let i = 0; i < 300 && !/[$#] /.test(output.stdout); i++) await pause(100)
      stdin.write('echo term-$((1+1))\r')
      for (let i = 0; i < 300 && !output.stdout.includes('term-2'); i++) await pause(100)
      stdin.write('exit\r')
    },
  })
  assert.match(stdout, /term-2/)
}

export async function a_sandbox_is_killed(test) {
  await done(test, ['sandbox', 'kill', await id(test)])
  assert.deepEqual(JSON.parse(await done(test, ['sandbox', 'list', '--format', 'json'])), [])
  const again = await cli(test, ['sandbox', 'kill', await id(test)])
  assert.match(again.stdout + again.stderr, /not found|wasn't found|No sandbox/i)
}
