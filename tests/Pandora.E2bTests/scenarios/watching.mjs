import assert from 'node:assert/strict'
import { until } from '../../Pandora.TestHost/Scenarios/wait.mjs'

async function watch(sandbox, path, options) {
  const events = []
  const handle = await sandbox.files.watchDir(path, (event) => { events.push(event) }, { timeoutMs: 300_000, ...options })
  return { events, handle, saw: (type, name) => until(() => events.find((e) => e.type === type && e.name === name), `${type} of ${name}`) }
}

export async function changes_of_a_directory_are_seen({ shared }) {
  const sandbox = await shared()
  await sandbox.files.makeDir('watched')
  const { handle, saw } = await watch(sandbox, 'watched')
  await sandbox.commands.run('echo one > watched/a')
  await saw('create', 'a')
  await saw('write', 'a')
  await sandbox.commands.run('chmod 600 watched/a')
  await saw('chmod', 'a')
  await sandbox.files.rename('watched/a', 'watched/b')
  await saw('rename', 'a')
  await sandbox.files.remove('watched/b')
  await saw('remove', 'b')
  await handle.stop()
}

export async function an_upload_is_seen_as_created_and_written({ shared }) {
  const sandbox = await shared()
  await sandbox.files.makeDir('uploads')
  const { events, handle, saw } = await watch(sandbox, 'uploads')
  await sandbox.files.write('uploads/a', 'one')
  await saw('create', 'a')
  await saw('write', 'a')
  // The server writes a file beside it and renames it. No event may show that file.
  assert.deepEqual([...new Set(events.map((e) => e.name))], ['a'])
  await handle.stop()
}

export async function below_a_directory_only_a_recursive_watch_sees_changes({ shared }) {
  const sandbox = await shared()
  await sandbox.files.makeDir('outer/inner')
  const deep = await watch(sandbox, 'outer', { recursive: true })
  const flat = await watch(sandbox, 'outer')
  await sandbox.files.write('outer/inner/file', 'x')
  await deep.saw('write', 'inner/file')
  await sandbox.files.makeDir('outer/later')
  await deep.saw('create', 'later')
  // What is in a new directory is watched some time after the directory is seen.
  await until(async () => {
    await sandbox.files.write('outer/later/file', 'x')
    return deep.events.some((e) => e.type === 'write' && e.name === 'later/file')
  }, 'write of later/file')
  await flat.saw('create', 'later')
  assert.ok(!flat.events.some((e) => e.name.includes('/')))
  await Promise.all([deep.handle.stop(), flat.handle.stop()])
}

export async function events_have_entries_when_asked({ shared }) {
  const sandbox = await shared()
  await sandbox.files.makeDir('described')
  const { handle, saw } = await watch(sandbox, 'described', { includeEntry: true })
  await sandbox.files.write('described/file', '12345')
  const { entry } = await saw('write', 'file')
  assert.deepEqual([entry.name, entry.type, entry.path, entry.owner], ['file', 'file', '/home/user/described/file', 'user'])
  await handle.stop()
}

export async function only_directories_that_exist_can_be_watched({ sdk, shared }) {
  const sandbox = await shared()
  await sandbox.files.write('no-directory', 'x')
  await assert.rejects(watch(sandbox, 'not-there'), sdk.NotFoundError)
  await assert.rejects(watch(sandbox, 'no-directory'), sdk.InvalidArgumentError)
}

export async function a_watch_that_was_stopped_sees_nothing_more({ shared }) {
  const sandbox = await shared()
  await sandbox.files.makeDir('stopped')
  let exits = 0
  const { events, handle, saw } = await watch(sandbox, 'stopped', { onExit: () => { exits++ } })
  await sandbox.files.write('stopped/first', 'x')
  await saw('write', 'first')
  await handle.stop()
  await until(() => exits === 1, 'the end of the watch')
  const count = events.length
  const other = await watch(sandbox, 'stopped')
  await sandbox.files.write('stopped/second', 'x')
  await other.saw('write', 'second')
  assert.equal(events.length, count)
  await other.handle.stop()
}
