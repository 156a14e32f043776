// What the guest wrote is only where it is marked as the guest's.
import assert from 'node:assert/strict'

// The guest makes this word; no request has it.
const word = 'SENTINEL'
const says = 'S=$(echo XENTINEL | tr X S); '

// Everything of an answer that is not marked.
function unmarked(test, result) {
  const { content = [], structuredContent, ...others } = result
  const { guest, ...structured } = structuredContent ?? {}
  return JSON.stringify({ content: content.filter((block, i) => i === 0 || !test.isOfGuest(block)), structured, others })
}

// A call whose answer has the word where it is marked, and nowhere else.
async function marked(test, session, name, args, options) {
  const result = await session.call(name, args, options)
  assert.ok(!result.isError, test.shorten(result.content))
  assert.ok(!unmarked(test, result).includes(word), `${name}: ${unmarked(test, result)}`)
  assert.ok(JSON.stringify(result.structuredContent.guest).includes(word), `${name} has nothing of the guest's: ${test.shorten(result)}`)
  assert.ok(result.content.slice(1).some((block) => JSON.stringify(block).includes(word)), name)
  return result.structuredContent
}

// A call whose answer does not have the word at all.
async function without(test, session, name, args) {
  const result = await session.call(name, args)
  assert.ok(!JSON.stringify(result).includes(word), `${name}: ${JSON.stringify(result)}`)
  return result
}

// A call that fails, and whose error has the word only where it is marked.
async function failing(test, session, name, args) {
  const result = await session.call(name, args)
  assert.equal(result.isError, true, `${name} ${JSON.stringify(args)} succeeded`)
  assert.ok(!unmarked(test, result).includes(word), `${name}: ${unmarked(test, result)}`)
}

export async function output_is_marked(test) {
  const session = await test.shared()
  const { sandbox } = session
  for (const command of [
    'echo $S; echo $S >&2; exit 3', '$S-no-such-program', 'cd /$S', 'eval "echo ( $S"', 'ls /$S', 'echo -e "\\033]0;$S\\007"',
    'echo $S; kill -9 $$',
    'printf "\\xff$S"', 'exec -a $S bash -c "no-program-$S; exit 5"', 'sh /$S',
  ]) await marked(test, session, 'run', { sandbox, command: says + command })
  await marked(test, session, 'run', { sandbox, command: `${says} for i in $(seq 900); do echo $S; done`, max_chars: 300 })
  const command = `${says} echo $S; sleep 300`
  const running = await marked(test, session, 'run', { sandbox, command, wait: 25 })
  await session.ok('process_signal', { process: running.process, signal: 'KILL' })
  const { process } = await session.ok('process_start', { sandbox, command: `${says} echo $S; cat; echo $S` })
  await marked(test, session, 'process_read', { process, until_text: 'NTINEL', wait: 20 })
}

export async function files_and_their_names_are_marked(test) {
  const session = await test.shared()
  const { sandbox } = session
  await session.output(`${says} mkdir -p /srv/g/dir && cd /srv/g/dir && echo "in $S" > plain && echo "needle" > "$S.txt"
    mkdir "$S" && ln -s "$S" link
    printf '\\0\\1 %s' $S > binary; printf '\\x89PNG\\r\\n\\x1a\\n%s' $S > image; touch "$(printf 'a\\n%s' $S)"`, { sandbox })
  await marked(test, session, 'file_read', { sandbox, path: '/srv/g/dir/plain' })
  await marked(test, session, 'file_list', { sandbox, path: '/srv/g/dir' })
  await marked(test, session, 'file_list', { sandbox, path: '/srv/g', depth: 3 })
  await marked(test, session, 'file_search', { sandbox, path: '/srv/g', pattern: 'needle' })
  await marked(test, session, 'file_search', { sandbox, path: '/srv/g', pattern: 'in .EN' })
  await marked(test, session, 'file_search', { sandbox, path: '/srv/g', name: '*ENTINE*' })
  for (const path of ['/srv/g/dir/binary', '/srv/g/dir/image']) {
    const result = await session.call('file_read', { sandbox, path })
    assert.ok(!unmarked(test, result).includes(word))
    const [block] = result.content.slice(1)
    assert.ok(Buffer.from(block.data ?? block.resource.blob, 'base64').includes(word))
  }
  // Where the next page begins is the name of a file.
  const { guest: { next }, ...page } = await session.ok('file_list', { sandbox, path: '/srv/g/dir', limit: 1 })
  assert.ok(next && !JSON.stringify(page).includes(next), JSON.stringify(page))
}

export async function errors_say_nothing_of_the_guests(test) {
  const session = await test.shared()
  const { sandbox } = session
  await session.output(`${says} mkdir -p /srv/e && cd /srv/e && ln -s "/srv/$S" dangling && ln -s "loop$S" loop && ln -s loop "loop$S"
    mkdir "$S" && ln -s "$S" way && echo "$S" > file && mkfifo pipe && printf '\\xff%s' $S > latin`, { sandbox })
  for (const path of ['/srv/e/dangling', '/srv/e/loop', '/srv/e/way/x', '/srv/e/pipe', '/srv/e/way', '/srv/e/file/x']) {
    await failing(test, session, 'file_read', { sandbox, path })
    await failing(test, session, 'file_edit', { sandbox, path, old_text: 'a', new_text: 'b' })
  }
  for (const path of ['/srv/e/dangling', '/srv/e/loop', '/srv/e/file/x']) {
    await failing(test, session, 'file_list', { sandbox, path })
    await failing(test, session, 'file_search', { sandbox, path, pattern: 'x' })
    await failing(test, session, 'run', { sandbox, command: 'true', cwd: path })
    await failing(test, session, 'process_start', { sandbox, command: 'true', cwd: path })
  }
  await failing(test, session, 'file_edit', { sandbox, path: '/srv/e/file', old_text: 'not there', new_text: 'x' })
  await failing(test, session, 'file_edit', { sandbox, path: '/srv/e/latin', old_text: 'not there', new_text: 'x' })
  await failing(test, session, 'file_write', { sandbox, path: '/srv/e/file/x', text: 'x' })
  await failing(test, session, 'file_write', { sandbox, path: '/srv/e/way', text: 'x' })
  await failing(test, session, 'file_read', { sandbox, path: '/srv/e/file', first_line: 9 })
  await failing(test, session, 'file_search', { sandbox, path: '/srv/e', pattern: '(' })
  await failing(test, session, 'run', { sandbox, command: 'true', user: 'nobody-at-all' })
}

export async function a_guest_that_replaced_its_programs_is_marked_all_the_same(test) {
  const session = await test.connect()
  const { sandbox } = await session.ok('run', { command: `${says} hostname $S
    mkdir -p /srv/r && echo needle > /srv/r/file
    for tool in grep find cat; do
      path=$(command -v $tool)
      printf '#!/bin/bash\\necho "%s on stderr" >&2; printf "%s\\\\0"; printf "3:%s\\\\n"; exit 2\\n' $S $S $S > /tmp/$tool
      chmod 755 /tmp/$tool
      cp --remove-destination /tmp/$tool $path
    done
    sed -i "s/^root:x:0:0:[^:]*:/root:x:0:0:$S:/" /etc/passwd; echo "export PS1=$S; echo $S" >> /root/.bashrc; echo $S > /etc/motd` })
  session.sandbox = sandbox
  // They are what runs now.
  await marked(test, session, 'file_search', { sandbox, path: '/srv/r', pattern: 'needle' })
  await marked(test, session, 'file_search', { sandbox, path: '/srv/r', name: '*' })
  await marked(test, session, 'run', { sandbox, command: 'cat /srv/r/file' })
  await without(test, session, 'run', { sandbox, command: 'true' })
  await without(test, session, 'file_list', { sandbox, path: '/srv/r' })
  await without(test, session, 'file_read', { sandbox, path: '/srv/r/file' })
  // A shell that is a script of the guest's.
  await session.call('run', { sandbox, command: `${says} printf '#!/bin/dash\\necho %s; echo %s >&2; exit 7\\n' $S $S > /tmp/sh
    chmod 755 /tmp/sh; cp --remove-destination /tmp/sh /bin/bash` })
  const shell = await marked(test, session, 'run', { sandbox, command: 'true' })
  assert.equal(shell.exit_code, 7)
  for (const args of [{ command: 'true', cwd: '/nowhere' }, { command: 'true', user: 'nobody' }]) {
    const result = await session.call('run', { sandbox, ...args })
    assert.ok(!unmarked(test, result).includes(word), unmarked(test, result))
  }
  await session.ok('sandbox_end', { sandbox })
  session.sandbox = undefined
}

export async function answers_about_the_sandbox_have_nothing_of_the_guests(test) {
  const session = await test.shared()
  const { sandbox } = session
  const command = `${says} cd /tmp && echo $S > index.html && exec -a $S python3 -u -m http.server 8081`
  const { process } = await session.ok('process_start', { sandbox, command, input: true })
  await marked(test, session, 'run', { sandbox, command: `${says} echo $S` })
  await session.ok('process_read', { process, until_text: 'Serving', wait: 30 })
  await without(test, session, 'sandbox_list', {})
  await without(test, session, 'port_link', { sandbox, port: 8081 })
  await without(test, session, 'process_input', { process, text: 'x' })
  await without(test, session, 'process_signal', { process })
  await without(test, session, 'file_write', { sandbox, path: '/srv/written', text: 'x' })
  assert.ok(!JSON.stringify(await session.tools()).includes(word))
}

export async function progress_says_that_it_is_the_guests(test) {
  const session = await test.shared()
  const messages = []
  const command = `${says} for i in 1 2 3; do echo "$S $i"; printf '\\033[1m\\u202e%s\\u2028x\\r\\n' $S; sleep 1.2; done`
  await marked(test, session, 'run', { sandbox: session.sandbox, command }, { onprogress: (p) => messages.push(p.message) })
  assert.ok(messages.length > 0)
  // One line, without control characters.
  assert.ok(messages.every((m) => /^guest: [^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+$/u.test(m)), JSON.stringify(messages))
}
