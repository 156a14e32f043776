import assert from 'node:assert/strict'
import { pause, until } from '../../Pandora.TestHost/Scenarios/wait.mjs'

// A program in the guest that shows the request on a port.
const program = `
import http.server, sys
class Show(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = (self.path + ' ' + self.headers['Host']).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(('', int(sys.argv[1])), Show).serve_forever()
`

async function serve(sandbox, port) {
  await sandbox.files.write('/tmp/show.py', program)
  await sandbox.commands.run(`python3 /tmp/show.py ${port}`, { background: true, timeoutMs: 0 })
  await until(async () => {
    const { stdout } = await sandbox.commands.run(`(exec 3<> /dev/tcp/127.0.0.1/${port}) 2> /dev/null && echo open || true`)
    return stdout === 'open\n'
  }, 'the port')
}

export async function the_api_and_the_agent_answer_by_their_names({ shared }) {
  const sandbox = await shared()
  assert.equal((await sandbox.commands.run('echo by name')).stdout, 'by name\n')
  await sandbox.files.write('named', 'x')
  assert.equal(await sandbox.files.read('named'), 'x')
  assert.equal(await sandbox.isRunning(), true)
}

export async function a_port_is_reached_by_its_name({ shared }) {
  const sandbox = await shared()
  await serve(sandbox, 8080)
  const host = sandbox.getHost(8080)
  assert.equal(host, `8080-${sandbox.sandboxId}.${process.env.E2B_DOMAIN}`)
  const answer = await fetch(`https://${host}/a/b?c=d%20e`)
  assert.equal(answer.status, 200)
  assert.equal(await answer.text(), `/a/b?c=d%20e ${host}`)
}

export async function a_port_that_is_closed_answers_502({ shared }) {
  const sandbox = await shared()
  const answer = await fetch(`https://${sandbox.getHost(3999)}/`)
  assert.equal(answer.status, 502)
  const { sandboxId, message, port, code } = await answer.json()
  assert.deepEqual([sandboxId, port, code], [sandbox.sandboxId, 3999, 502])
  assert.equal(message, 'The sandbox is running but port is not open')
}

export async function a_sandbox_that_was_killed_answers_502({ create, kill }) {
  const sandbox = await create()
  const host = sandbox.getHost(8080)
  await kill(sandbox)
  const answer = await fetch(`https://${host}/`)
  assert.equal(answer.status, 502)
  assert.deepEqual(await answer.json(), { sandboxId: sandbox.sandboxId, message: 'The sandbox was not found', code: 502 })
}

export async function a_file_is_read_by_a_signed_address({ shared }) {
  const sandbox = await shared()
  await sandbox.files.write('signed.txt', 'by its address')
  const answer = await fetch(await sandbox.downloadUrl('signed.txt', { useSignatureExpiration: 60 }))
  assert.equal(answer.status, 200)
  assert.equal(await answer.text(), 'by its address')
  assert.equal(await (await fetch(await sandbox.downloadUrl('signed.txt'))).text(), 'by its address')
}

export async function a_file_is_written_by_a_signed_address({ shared }) {
  const sandbox = await shared()
  const form = new FormData()
  form.append('file', new Blob(['uploaded']), 'ignored.txt')
  const answer = await fetch(await sandbox.uploadUrl('up.txt', { useSignatureExpiration: 60 }), { method: 'POST', body: form })
  assert.equal(answer.status, 200)
  assert.equal(await sandbox.files.read('up.txt'), 'uploaded')
}

export async function an_address_names_a_user({ shared }) {
  const sandbox = await shared()
  await sandbox.files.write('of-root', 'of root', { user: 'root' })
  const address = await sandbox.downloadUrl('of-root', { user: 'root', useSignatureExpiration: 60 })
  assert.equal(await (await fetch(address)).text(), 'of root')
}

export async function an_address_is_for_its_path_and_operation({ shared }) {
  const sandbox = await shared()
  await sandbox.files.write([{ path: 'one', data: '1' }, { path: 'two', data: '2' }])
  const address = new URL(await sandbox.downloadUrl('one', { useSignatureExpiration: 60 }))
  const refused = async (url, message, options) => {
    const answer = await fetch(url, options)
    assert.equal(answer.status, 401)
    const body = await answer.json()
    assert.deepEqual([body.code, body.message], [401, message])
  }
  const other = new URL(address)
  other.searchParams.set('path', 'two')
  await refused(other, 'invalid signature')
  const later = new URL(address)
  later.searchParams.set('signature_expiration', `${Number(address.searchParams.get('signature_expiration')) + 1}`)
  await refused(later, 'invalid signature')
  const form = new FormData()
  form.append('file', new Blob(['x']))
  await refused(address, 'invalid signature', { method: 'POST', body: form })
  const bare = new URL(address)
  bare.searchParams.delete('signature')
  await refused(bare, 'missing signature query parameter')
}

export async function an_address_ends_at_its_time({ shared }) {
  const sandbox = await shared()
  await sandbox.files.write('short', 'x')
  const address = await sandbox.downloadUrl('short', { useSignatureExpiration: 1 })
  await pause(2500)
  const answer = await fetch(address)
  assert.equal(answer.status, 401)
  assert.deepEqual(await answer.json(), { code: 401, message: 'signature is already expired' })
}

export async function ports_that_are_not_public_need_the_token({ create }) {
  const sandbox = await create({ network: { allowPublicTraffic: false } })
  await serve(sandbox, 8080)
  const address = `https://${sandbox.getHost(8080)}/`
  const status = async (headers) => (await fetch(address, { headers })).status
  assert.ok(sandbox.trafficAccessToken)
  assert.equal(await status({}), 403)
  assert.equal(await status({ 'e2b-traffic-access-token': 'wrong' }), 403)
  assert.equal(await status({ 'e2b-traffic-access-token': sandbox.trafficAccessToken }), 200)
}

export async function a_program_sees_the_host_that_was_asked_for({ create }) {
  const sandbox = await create({ network: { maskRequestHost: 'shown.test:${PORT}' } })
  await serve(sandbox, 8081)
  assert.equal(await (await fetch(`https://${sandbox.getHost(8081)}/x`)).text(), '/x shown.test:8081')
}

export async function the_token_of_the_agent_is_needed_by_name_too({ shared }) {
  const sandbox = await shared()
  const answer = await fetch(`https://${sandbox.getHost(49983)}/process.Process/List`, {
    method: 'POST', body: '{}', headers: { 'Content-Type': 'application/json' },
  })
  assert.equal(answer.status, 401)
  assert.equal((await fetch(`https://${sandbox.getHost(49983)}/health`)).status, 204)
}
