import assert from 'node:assert/strict'

const bare = '/tmp/origin.git'
const author = { authorName: 'A Person', authorEmail: 'person@example.test' }
let ready

// A bare repository in the guest, and a first clone with one commit that was pushed.
const prepare = ({ shared }) => (ready ??= (async () => {
  const sandbox = await shared()
  await sandbox.git.init(bare, { bare: true, initialBranch: 'main' })
  await sandbox.git.clone(bare, { path: 'first' })
  await sandbox.git.configureUser(author.authorName, author.authorEmail)
  await sandbox.files.write('first/readme', 'one\n')
  await sandbox.git.add('first')
  await sandbox.git.commit('first', 'Begin', author)
  await sandbox.git.push('first', { remote: 'origin', branch: 'main' })
  return sandbox
})())

export async function a_repository_is_cloned_and_pushed_to(test) {
  const { files, git } = await prepare(test)
  await git.clone(bare, { path: 'second', branch: 'main' })
  assert.equal(await files.read('second/readme'), 'one\n')
}

export async function the_status_names_what_changed(test) {
  const { files, git } = await prepare(test)
  assert.equal((await git.status('first')).isClean, true)
  await files.write([{ path: 'first/readme', data: 'two\n' }, { path: 'first/new', data: 'x' }])
  const status = await git.status('first')
  assert.equal(status.currentBranch, 'main')
  assert.deepEqual([status.isClean, status.hasUntracked, status.totalCount], [false, true, 2])
  assert.deepEqual(status.fileStatus.map((f) => [f.name, f.status]).sort(), [['new', 'untracked'], ['readme', 'modified']])
  await git.restore('first', { paths: ['readme'] })
  await files.remove('first/new')
  assert.equal((await git.status('first')).isClean, true)
}

export async function branches_are_made_and_deleted(test) {
  const { git } = await prepare(test)
  await git.createBranch('first', 'topic')
  assert.equal((await git.branches('first')).currentBranch, 'topic')
  await git.checkoutBranch('first', 'main')
  const { branches } = await git.branches('first')
  assert.deepEqual(branches.toSorted(), ['main', 'topic'])
  await git.deleteBranch('first', 'topic')
  assert.deepEqual((await git.branches('first')).branches, ['main'])
}

export async function what_one_clone_pushes_another_pulls(test) {
  const { files, git } = await prepare(test)
  await git.clone(bare, { path: 'third' })
  await files.write('first/more', 'more\n')
  await git.add('first', { files: ['more'] })
  await git.commit('first', 'More', author)
  assert.equal((await git.status('first')).ahead, 1)
  await git.push('first', { remote: 'origin', branch: 'main' })
  await git.pull('third', { remote: 'origin', branch: 'main' })
  assert.equal(await files.read('third/more'), 'more\n')
}

export async function remotes_and_settings_are_kept(test) {
  const { git } = await prepare(test)
  await git.remoteAdd('first', 'mirror', '/tmp/mirror.git')
  assert.equal(await git.remoteGet('first', 'mirror'), '/tmp/mirror.git')
  await git.setConfig('pull.rebase', 'false', { scope: 'local', path: 'first' })
  assert.equal(await git.getConfig('pull.rebase', { scope: 'local', path: 'first' }), 'false')
}

export async function a_commit_can_be_taken_back(test) {
  const { commands, git } = await prepare(test)
  const head = async () => (await commands.run('git rev-parse HEAD', { cwd: '/home/user/first' })).stdout
  const before = await head()
  await git.commit('first', 'Nothing', { ...author, allowEmpty: true })
  assert.notEqual(await head(), before)
  await git.reset('first', { mode: 'hard', target: 'HEAD~1' })
  assert.equal(await head(), before)
}

export async function a_repository_that_is_missing_is_an_error(test) {
  const { git } = await prepare(test)
  await assert.rejects(git.clone('/tmp/no-such.git', { path: 'never' }))
}
