// Five jobs by tools alone, without a model. Each says what it cost: the calls, and the bytes that a model would write and read.
import assert from 'node:assert/strict'
import { pageOf } from './tools.mjs'

// Runs a job with a client of its own, and holds generous bounds on its cost.
async function job(test, most, work) {
  const session = await test.connect()
  let sandbox
  try {
    sandbox = await work(session)
  } finally {
    if (sandbox) await session.ok('sandbox_end', { sandbox })
    await session.close()
  }
  const { calls, written, read } = session
  assert.ok(calls <= most.calls && written <= most.written && read <= most.read, JSON.stringify({ calls, written, read, most }))
  return { calls, written, read }
}

export async function write_and_run_a_program(test) {
  return job(test, { calls: 4, written: 1000, read: 4000 }, async (session) => {
    const text = 'import sys\nn = int(sys.argv[1])\nprint([p for p in range(2, n) if all(p % d for d in range(2, p))])\n'
    const { sandbox } = await session.ok('file_write', { path: 'primes.py', text })
    assert.equal(await session.output('python3 primes.py 20', { sandbox }), '[2, 3, 5, 7, 11, 13, 17, 19]\n')
    return sandbox
  })
}

const broken = `
def mean(numbers):
    return sum(numbers) / (len(numbers) + 1)
`

const tests = `
import unittest
from figures.mean import mean

class MeanTests(unittest.TestCase):
    def test_mean(self):
        self.assertEqual(mean([1, 2, 3]), 2)
`

export async function find_and_mend_a_failing_test(test) {
  return job(test, { calls: 10, written: 3000, read: 10_000 }, async (session) => {
    const { sandbox } = await session.ok('file_write', { path: '/srv/project/figures/mean.py', text: broken })
    await session.ok('file_write', { sandbox, path: '/srv/project/test_mean.py', text: tests })
    const check = () => session.ok('run', { sandbox, command: 'python3 -m unittest', cwd: '/srv/project' })
    const failed = await check()
    assert.equal(failed.exit_code, 1)
    assert.match(failed.guest.output, /AssertionError: 1\.5 != 2/)
    const found = await session.ok('file_search', { sandbox, path: '/srv/project', pattern: 'def mean', name: '*.py' })
    const [match] = found.guest.matches
    const { guest: { text } } = await session.ok('file_read', { sandbox, path: match.path, first_line: match.line })
    assert.ok(text.includes('(len(numbers) + 1)'))
    await session.ok('file_edit', { sandbox, path: match.path, old_text: '(len(numbers) + 1)', new_text: 'len(numbers)' })
    const mended = await check()
    assert.equal(mended.exit_code, 0, mended.guest.output)
    return sandbox
  })
}

export async function poll_a_build_of_three_minutes(test) {
  return job(test, { calls: 12, written: 3000, read: 40_000 }, async (session) => {
    const start = performance.now()
    const command = 'for i in $(seq 1 180); do echo "step $i of 180"; sleep 1; done; echo built > result; echo finished'
    const { sandbox, process } = await session.ok('process_start', { command, cwd: '/srv' })
    let [cursor, output, answer] = [0, '']
    do {
      answer = await session.ok('process_read', { process, cursor, wait: 45, until_text: 'finished\n' })
      cursor = answer.cursor
      output += answer.guest.output
    } while (answer.state === 'running' && answer.reason !== 'text')
    assert.ok(performance.now() - start > 179_000)
    const steps = Array.from({ length: 180 }, (_, i) => `step ${i + 1} of 180\n`).join('')
    assert.equal(output, `${steps}finished\n`)
    assert.equal((await session.ok('file_read', { sandbox, path: '/srv/result' })).guest.text, 'built\n')
    return sandbox
  })
}
poll_a_build_of_three_minutes.longestMs = 420_000
poll_a_build_of_three_minutes.isPatient = true

export async function serve_a_page_and_fetch_it(test) {
  return job(test, { calls: 6, written: 1500, read: 6000 }, async (session) => {
    const { sandbox } = await session.ok('file_write', { path: '/srv/www/index.html', text: '<h1>A page of the sandbox</h1>' })
    const command = 'exec python3 -u -m http.server 8000 --bind 127.0.0.1'
    const { process } = await session.ok('process_start', { sandbox, command, cwd: '/srv/www' })
    await session.ok('process_read', { process, until_text: 'Serving HTTP', wait: 30 })
    const { url } = await session.ok('port_link', { sandbox, port: 8000 })
    assert.equal(await pageOf(url), '<h1>A page of the sandbox</h1>')
    return sandbox
  })
}

export async function search_a_tree_of_5000_files(test) {
  return job(test, { calls: 8, written: 2000, read: 20_000 }, async (session) => {
    const program = `
import pathlib
for i in range(5000):
    directory = pathlib.Path('/srv/tree', f'd{i % 50}', f'e{i % 7}')
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f'f{i}.txt').write_text(f'file {i}\\n' + 'filler\\n' * 20 + ('the needle\\n' if i in (17, 2500, 4999) else ''))
`
    const made = await session.ok('run', { command: 'python3 -', stdin: program })
    const { sandbox } = made
    for (let now = made; now.state === 'running';) now = await session.ok('process_read', { process: made.process, wait: 40 })
    const found = await session.ok('file_search', { sandbox, path: '/srv/tree', pattern: 'the needle', literal: true })
    const paths = [17, 2500, 4999].map((i) => `/srv/tree/d${i % 50}/e${i % 7}/f${i}.txt`)
    assert.deepEqual(found.guest.matches.map((m) => [m.path, m.line]).sort(), paths.map((p) => [p, 22]).sort())
    assert.equal(found.more, false)
    const named = await session.ok('file_search', { sandbox, path: '/srv/tree', name: 'f123?.txt' })
    assert.equal(named.count, 10)
    const all = await session.ok('file_search', { sandbox, path: '/srv/tree', pattern: 'file [0-9]+', limit: 20 })
    assert.deepEqual([all.count, all.more], [20, true])
    return sandbox
  })
}
