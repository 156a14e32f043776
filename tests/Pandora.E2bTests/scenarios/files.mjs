import assert from 'node:assert/strict'
import { gzipSync } from 'node:zlib'

const streamOf = (...parts) => new ReadableStream({
  start(controller) {
    for (const part of parts) controller.enqueue(new TextEncoder().encode(part))
    controller.close()
  },
})

export async function text_is_read_as_it_was_written({ shared }) {
  const { files } = await shared()
  const text = 'Grüße 漢字 😀\r\nlast line without end'
  const info = await files.write('text.txt', text)
  assert.deepEqual([info.name, info.path, info.type], ['text.txt', '/home/user/text.txt', 'file'])
  assert.equal(await files.read('text.txt'), text)
  assert.equal(await files.read('/home/user/text.txt', { format: 'text' }), text)
}

export async function bytes_are_read_as_they_were_written({ shared }) {
  const { files } = await shared()
  const data = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 7 + (i >> 8)) & 255)
  await files.write('/tmp/bytes', data.buffer)
  assert.deepEqual(Buffer.from(await files.read('/tmp/bytes', { format: 'bytes' })), Buffer.from(data))
  const blob = await files.read('/tmp/bytes', { format: 'blob' })
  assert.equal(blob.size, data.length)
}

export async function a_file_can_be_read_as_a_stream({ shared }) {
  const { files } = await shared()
  await files.write('/tmp/streamed', 'x'.repeat(3_000_000))
  let length = 0
  for await (const piece of await files.read('/tmp/streamed', { format: 'stream' })) length += piece.length
  assert.equal(length, 3_000_000)
}

export async function a_file_can_be_written_from_a_stream({ shared }) {
  const { files } = await shared()
  await files.write('/tmp/from-stream', streamOf('one ', 'two ', 'three'), { useOctetStream: true })
  assert.equal(await files.read('/tmp/from-stream'), 'one two three')
  await files.write('/tmp/from-blob', new Blob(['four']))
  assert.equal(await files.read('/tmp/from-blob'), 'four')
}

export async function files_can_be_compressed_on_the_way({ shared }) {
  const { files } = await shared()
  const text = 'again and again '.repeat(5000)
  await files.write('/tmp/compressed', text, { gzip: true })
  assert.equal((await files.getInfo('/tmp/compressed')).size, text.length)
  assert.equal(await files.read('/tmp/compressed', { gzip: true }), text)
  const packed = gzipSync('stays packed')
  await files.write('/tmp/packed.gz', new Blob([packed]))
  assert.deepEqual(Buffer.from(await files.read('/tmp/packed.gz', { format: 'bytes' })), packed)
}

export async function an_empty_file_is_read_as_nothing({ shared }) {
  const { files } = await shared()
  await files.write('/tmp/empty', '')
  assert.equal(await files.read('/tmp/empty'), '')
  assert.equal((await files.read('/tmp/empty', { format: 'bytes' })).length, 0)
}

export async function writing_again_replaces_the_file({ shared }) {
  const { files } = await shared()
  await files.write('/tmp/replaced', 'a long first text')
  await files.write('/tmp/replaced', 'short')
  assert.equal(await files.read('/tmp/replaced'), 'short')
}

export async function many_files_are_written_by_one_call({ shared }) {
  const { files } = await shared()
  const wanted = Array.from({ length: 8 }, (_, i) => ({ path: `many/deep/${i}.txt`, data: `number ${i}` }))
  const written = await files.write(wanted)
  assert.deepEqual(written.map((w) => w.path), wanted.map((w) => `/home/user/${w.path}`))
  for (const { path, data } of wanted) assert.equal(await files.read(path), data)
}

export async function parents_are_made_and_belong_to_the_user({ shared }) {
  const { files } = await shared()
  await files.write('/home/user/new/parents/file', 'x')
  const parent = await files.getInfo('/home/user/new/parents')
  assert.deepEqual([parent.type, parent.owner, parent.permissions], ['dir', 'user', 'drwxr-xr-x'])
  const file = await files.getInfo('/home/user/new/parents/file')
  assert.deepEqual([file.owner, file.group, file.permissions], ['user', 'user', '-rw-r--r--'])
}

export async function a_file_belongs_to_the_user_who_is_named({ shared }) {
  const { files } = await shared()
  await files.write('mine', 'of root', { user: 'root' })
  const info = await files.getInfo('/root/mine', { user: 'root' })
  assert.deepEqual([info.path, info.owner], ['/root/mine', 'root'])
}

export async function a_file_that_is_missing_is_an_error({ sdk, shared }) {
  const { files } = await shared()
  await assert.rejects(files.read('missing.txt'), sdk.NotFoundError)
  await assert.rejects(files.getInfo('missing.txt'), sdk.NotFoundError)
  await assert.rejects(files.list('missing'), sdk.NotFoundError)
  await assert.rejects(files.rename('missing.txt', 'other.txt'), sdk.NotFoundError)
}

export async function a_directory_is_no_file_and_a_file_no_directory({ sdk, shared }) {
  const { files } = await shared()
  await files.write('plain', 'x')
  await assert.rejects(files.read('/tmp'), sdk.InvalidArgumentError)
  await assert.rejects(files.list('plain'), sdk.InvalidArgumentError)
  await assert.rejects(files.makeDir('plain'), sdk.InvalidArgumentError)
}

export async function a_directory_is_listed_to_a_depth({ shared }) {
  const { files } = await shared()
  await files.write([{ path: 'tree/a', data: '1' }, { path: 'tree/b/c', data: '22' }, { path: 'tree/b/d/e', data: '333' }])
  const paths = async (depth) => (await files.list('tree', { depth })).map((e) => e.path.replace('/home/user/tree/', '')).sort()
  assert.deepEqual(await paths(1), ['a', 'b'])
  assert.deepEqual(await paths(2), ['a', 'b', 'b/c', 'b/d'])
  assert.deepEqual(await paths(3), ['a', 'b', 'b/c', 'b/d', 'b/d/e'])
  const [file] = (await files.list('tree')).filter((e) => e.name === 'a')
  assert.deepEqual([file.type, file.size, file.owner], ['file', 1, 'user'])
}

export async function entries_say_what_they_are({ shared }) {
  const { commands, files } = await shared()
  await commands.run('mkdir -p kinds/dir && cd kinds && echo 12345 > file && chmod 640 file && ln -s file link && ln -s nowhere broken')
  const info = await files.getInfo('kinds/file')
  assert.deepEqual(
    [info.name, info.type, info.path, info.size, info.mode & 0o777, info.permissions],
    ['file', 'file', '/home/user/kinds/file', 6, 0o640, '-rw-r-----'])
  assert.ok(Math.abs(info.modifiedTime.getTime() - Date.now()) < 120_000)
  const link = (await files.list('kinds')).find((e) => e.name === 'link')
  assert.equal(link.symlinkTarget, '/home/user/kinds/file')
  // The SDK leaves out links that lead nowhere, because the kind of their target is unknown.
  assert.deepEqual((await files.list('kinds')).map((e) => e.name).sort(), ['dir', 'file', 'link'])
  assert.equal((await files.getInfo('kinds/dir')).type, 'dir')
}

export async function what_exists_is_known({ shared }) {
  const { files } = await shared()
  await files.write('here', 'x')
  assert.deepEqual(
    await Promise.all(['here', '/home/user', 'not/here'].map((p) => files.exists(p))), [true, true, false])
}

export async function a_directory_is_made_once({ shared }) {
  const { files } = await shared()
  assert.equal(await files.makeDir('made/with/parents'), true)
  assert.equal(await files.makeDir('made/with/parents'), false)
  assert.equal((await files.getInfo('made/with')).owner, 'user')
}

export async function files_and_directories_are_renamed({ shared }) {
  const { files } = await shared()
  await files.write('old/name', 'kept')
  const moved = await files.rename('old/name', 'new-place/name')
  assert.equal(moved.path, '/home/user/new-place/name')
  assert.equal(await files.read('new-place/name'), 'kept')
  assert.equal(await files.exists('old/name'), false)
  await files.rename('new-place', 'newer-place')
  assert.equal(await files.read('newer-place/name'), 'kept')
}

export async function files_and_directories_are_removed({ shared }) {
  const { files } = await shared()
  await files.write([{ path: 'gone/a', data: '1' }, { path: 'gone/b/c', data: '2' }])
  await files.remove('gone/a')
  assert.equal(await files.exists('gone/a'), false)
  await files.remove('gone')
  assert.equal(await files.exists('gone'), false)
  await files.remove('gone')
}

export async function metadata_is_kept_until_the_next_upload({ shared }) {
  const { files } = await shared()
  const written = await files.write('described', 'x', { metadata: { author: 'me', purpose: 'a test' } })
  assert.deepEqual(written.metadata, { author: 'me', purpose: 'a test' })
  assert.deepEqual((await files.getInfo('described')).metadata, { author: 'me', purpose: 'a test' })
  const [listed] = (await files.list('/home/user')).filter((e) => e.name === 'described')
  assert.deepEqual(listed.metadata, { author: 'me', purpose: 'a test' })
  await files.write('described', 'y', { metadata: { author: 'you' } })
  assert.deepEqual((await files.getInfo('described')).metadata, { author: 'you' })
}

export async function names_may_have_any_characters({ shared }) {
  const { files } = await shared()
  for (const name of ['with space', 'ümlaut', 'per%20cent', 'a+b&c=d', "quote'd \"twice\"", '#hash?']) {
    await files.write(`/tmp/odd/${name}`, name)
    assert.equal(await files.read(`/tmp/odd/${name}`), name)
  }
  assert.equal((await files.list('/tmp/odd')).length, 6)
}
