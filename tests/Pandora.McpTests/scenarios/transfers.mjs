// Files of the user's machine, below the directories that './pandora mcp --allow' names.
import assert from 'node:assert/strict'
import { lstat, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

// A directory that is allowed, and beside it one that is not, with a secret.
async function withDirectories(test, work) {
  const root = await mkdtemp(join(tmpdir(), 'pandora-mcp-'))
  const [allowed, outside] = [join(root, 'allowed'), join(root, 'allowed-not')]
  await mkdir(allowed)
  await mkdir(outside)
  await writeFile(join(outside, 'secret.txt'), 'secret')
  let session
  try {
    session = await test.connect({ args: ['--allow', allowed] })
    await work({ session, allowed, outside })
    // Nothing was written there.
    assert.deepEqual(await readdir(outside), ['secret.txt'])
    assert.equal(await readFile(join(outside, 'secret.txt'), 'utf8'), 'secret')
    assert.deepEqual((await readdir(root)).sort(), ['allowed', 'allowed-not'])
  } finally {
    await session?.close()
    await rm(root, { recursive: true })
  }
}

export async function without_a_directory_the_tools_are_not_offered(test) {
  const session = await test.shared()
  assert.ok((await session.tools()).every((t) => !/load/.test(t.name)))
  for (const [name, args] of [['upload', { from: '/etc/passwd', to: '/srv/x' }], ['download', { from: '/etc/passwd', to: '/tmp/x' }]]) {
    const answer = await session.call(name, args).catch((e) => ({ isError: true, thrown: e }))
    assert.equal(answer.isError, true, name)
  }
}

export async function with_a_directory_they_are_two_tools_more(test) {
  await withDirectories(test, async ({ session }) => {
    const tools = await session.tools()
    assert.equal(tools.length, 16)
    for (const name of ['upload', 'download']) {
      const tool = tools.find((t) => t.name === name)
      assert.deepEqual(tool.inputSchema.required.toSorted(), ['from', 'to'])
      assert.equal(tool.inputSchema.additionalProperties, false)
      assert.ok(tool.outputSchema && tool.annotations)
    }
  })
}

export async function files_and_trees_go_in_and_come_out(test) {
  await withDirectories(test, async ({ session, allowed }) => {
    const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, i) => (i * 7919) % 256))
    await mkdir(join(allowed, 'tree/below'), { recursive: true })
    await writeFile(join(allowed, 'tree/big.bin'), bytes)
    await writeFile(join(allowed, 'tree/below/ü small.txt'), 'small\n')
    const file = await session.ok('upload', { from: join(allowed, 'tree/big.bin'), to: '/srv/one.bin' })
    assert.deepEqual([file.files, file.bytes, file.new_sandbox], [1, bytes.length, true])
    const tree = await session.ok('upload', { from: join(allowed, 'tree'), to: '/srv/tree' })
    assert.deepEqual([tree.files, tree.bytes, tree.sandbox, tree.new_sandbox], [2, bytes.length + 6, file.sandbox, false])
    assert.equal(await session.output('cmp /srv/one.bin /srv/tree/big.bin && cat "/srv/tree/below/ü small.txt"'), 'small\n')
    await session.output('echo more > /srv/tree/more.txt')
    await session.ok('download', { from: '/srv/one.bin', to: join(allowed, 'back.bin') })
    assert.ok(bytes.equals(await readFile(join(allowed, 'back.bin'))))
    const back = await session.ok('download', { from: '/srv/tree', to: join(allowed, 'again') })
    assert.equal(back.files, 3)
    assert.ok(bytes.equals(await readFile(join(allowed, 'again/big.bin'))))
    assert.equal(await readFile(join(allowed, 'again/below/ü small.txt'), 'utf8'), 'small\n')
    assert.equal(await readFile(join(allowed, 'again/more.txt'), 'utf8'), 'more\n')
  })
}

export async function what_is_outside_of_the_directory_is_refused(test) {
  await withDirectories(test, async ({ session, allowed, outside }) => {
    await symlink(join(outside, 'secret.txt'), join(allowed, 'link'))
    await symlink(outside, join(allowed, 'way'))
    await writeFile(join(allowed, 'fine.txt'), 'fine')
    const paths = [
      join(outside, 'secret.txt'), `${allowed}/../allowed-not/secret.txt`, join(allowed, 'link'), join(allowed, 'way/secret.txt'),
      '/etc/passwd', outside, '/', `${allowed}\0/x`, '', '../allowed-not/secret.txt', join(allowed, 'missing'), `~/${'x'.repeat(5000)}`,
    ]
    for (const from of paths) {
      const refused = await session.refused('upload', { from, to: '/srv/in' })
      assert.equal(refused.field, 'from', `${JSON.stringify(from)}: ${refused.text}`)
      assert.ok(!refused.text.includes('root:'))
    }
    await session.output('mkdir -p /srv/out && echo x > /srv/out/file')
    const targets = [
      join(outside, 'new.txt'), `${allowed}/../allowed-not/new.txt`, join(allowed, 'link'), join(allowed, 'way/new.txt'), outside,
      '/tmp/../etc/x', `${allowed}/sub/../../allowed-not/new.txt`, `${allowed}/a\0b`, '',
    ]
    for (const to of targets) {
      const refused = await session.refused('download', { from: '/srv/out/file', to })
      assert.equal(refused.field, 'to', `${JSON.stringify(to)}: ${refused.text}`)
    }
  })
}

export async function a_tree_of_the_guest_does_not_lead_outside(test) {
  await withDirectories(test, async ({ session, allowed, outside }) => {
    // A link with the name of a directory, and a file below what the link names.
    await session.output(`mkdir -p /srv/evil/deep && cd /srv/evil && ln -s ${outside} way && ln -s ${outside}/secret.txt secret
      ln -s ../../.. up && echo x > deep/file && ln -s /etc/passwd passwd && mkfifo pipe`)
    const first = await session.ok('download', { from: '/srv/evil', to: join(allowed, 'evil') })
    assert.deepEqual([first.files, first.left_out], [1, 5])
    assert.equal(await readFile(join(allowed, 'evil/deep/file'), 'utf8'), 'x\n')
    // Again, over what the first time left: no link is followed.
    await session.output(`cd /srv/evil && rm way secret && mkdir way && echo evil > way/secret.txt && echo evil > secret`)
    const second = await session.ok('download', { from: '/srv/evil', to: allowed })
    assert.deepEqual([second.files, second.left_out], [3, 3])
    assert.equal(await readFile(join(allowed, 'evil/secret'), 'utf8'), 'evil\n')
    assert.equal(await readFile(join(allowed, 'evil/way/secret.txt'), 'utf8'), 'evil\n')
  })
}

export async function a_tree_of_the_user_takes_no_file_from_outside(test) {
  await withDirectories(test, async ({ session, allowed, outside }) => {
    await mkdir(join(allowed, 'tree'))
    await writeFile(join(allowed, 'tree/own.txt'), 'own')
    await symlink(join(outside, 'secret.txt'), join(allowed, 'tree/link'))
    await symlink(outside, join(allowed, 'tree/way'))
    await session.ok('upload', { from: join(allowed, 'tree'), to: '/srv/tree' })
    assert.equal(await session.output('cat /srv/tree/own.txt; grep -rs secret /srv/tree/ | grep -v "^$" || true'), 'own')
  })
}

export async function wrong_arguments_are_named(test) {
  await withDirectories(test, async ({ session, allowed }) => {
    await writeFile(join(allowed, 'x'), 'x')
    const from = join(allowed, 'x')
    for (const [args, field] of [
      [{ from, to: 5 }, 'to'], [{ from: [], to: '/srv/x' }, 'from'], [{ to: '/srv/x' }, 'from'], [{ from }, 'to'],
      [{ from, to: '/srv/x', nonsense: 1 }, 'nonsense'], [{ from, to: '/srv/x', sandbox: 'nowhere' }, undefined],
      [{ from, to: 'a\0b' }, 'to'],
    ]) {
      const refused = await session.refused('upload', args)
      if (field) assert.equal(refused.field, field, refused.text)
      else assert.equal(refused.code, 'sandbox_not_found')
    }
  })
}
