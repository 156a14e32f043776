import assert from 'node:assert/strict'

const [count, rooms] = [50, 4]

export async function fifty_sessions_at_once_share_four_sandboxes(test) {
  const sessions = await Promise.all(Array.from({ length: count }, () => test.connect()))
  const made = await Promise.all(sessions.slice(0, rooms).map((s) => s.ok('run', { command: 'echo made' })))
  const ids = made.map((m) => m.sandbox)
  assert.equal(new Set(ids).size, rooms)
  await Promise.all(sessions.map(async (session, i) => {
    const sandbox = ids[i % rooms]
    const path = `/srv/session-${i}.txt`
    await session.ok('file_write', { sandbox, path, text: `session ${i}\n` })
    assert.equal(await session.output(`cat ${path}; echo $((${i} * ${i}))`, { sandbox }), `session ${i}\n${i * i}\n`)
    const { process } = await session.ok('process_start', { sandbox, command: `sleep 2; echo process ${i}` })
    const end = await session.ok('process_read', { process, until_text: `process ${i}\n`, wait: 40 })
    assert.equal(end.guest.output, `process ${i}\n`)
    assert.equal((await session.ok('file_read', { sandbox, path })).guest.text, `session ${i}\n`)
  }))
  for (const [i, sandbox] of ids.entries()) {
    const { guest: { entries } } = await sessions[0].ok('file_list', { sandbox, path: '/srv' })
    const own = Array.from({ length: count }, (_, n) => n).filter((n) => n % rooms === i).map((n) => `session-${n}.txt`)
    assert.deepEqual(entries.map((e) => e.path.split('/').at(-1)).filter((n) => n.startsWith('session-')).sort(), own.sort())
    await sessions[0].ok('sandbox_end', { sandbox })
  }
  await Promise.all(sessions.map((s) => s.close()))
}
