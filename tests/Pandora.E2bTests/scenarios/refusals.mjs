import assert from 'node:assert/strict'

const otherKey = 'e2b_' + 'f'.repeat(40)
const api = () => process.env.E2B_API_URL

export async function a_key_that_is_unknown_is_refused({ sdk }) {
  await assert.rejects(sdk.Sandbox.create({ apiKey: otherKey }), sdk.AuthenticationError)
  await assert.rejects(sdk.Sandbox.list({ apiKey: otherKey }).nextItems(), sdk.AuthenticationError)
}

export async function a_request_without_a_key_is_refused_in_the_form_that_clients_read() {
  const answer = await fetch(`${api()}/v2/sandboxes`)
  assert.equal(answer.status, 401)
  const { code, message } = await answer.json()
  assert.equal(code, 401)
  assert.equal(typeof message, 'string')
}

export async function the_agent_wants_the_token_of_its_sandbox({ shared }) {
  const sandbox = await shared()
  const headers = { 'E2b-Sandbox-Id': sandbox.sandboxId, 'E2b-Sandbox-Port': '49983', 'Content-Type': 'application/json' }
  for (const token of [{}, { 'X-Access-Token': 'wrong' }]) {
    const answer = await fetch(`${api()}/process.Process/List`, { method: 'POST', body: '{}', headers: { ...headers, ...token } })
    assert.equal(answer.status, 401)
    assert.equal((await answer.json()).code, 401)
  }
}

export async function what_this_server_cannot_do_yet_says_so({ sdk, shared }) {
  const sandbox = await shared()
  await assert.rejects(sandbox.pause(), /501.*cannot pause/s)
  await assert.rejects(sandbox.fork(), /501.*cannot pause/s)
  await assert.rejects(sandbox.createSnapshot(), /501.*cannot pause/s)
  await assert.rejects(sdk.Sandbox.listSnapshots().nextItems(), /501/)
  assert.equal(await sandbox.isRunning(), true)
}

export async function options_that_are_not_served_are_refused_and_not_ignored({ create }) {
  await assert.rejects(create({ lifecycle: { onTimeout: 'pause' } }), /400/)
  await assert.rejects(create({ network: { allowOut: ['example.com'], denyOut: ['0.0.0.0/0'] } }), /400.*no domains/s)
  await assert.rejects(create({ network: { egressProxy: { address: 'proxy.test:3128' } } }), /400.*egressProxy/s)
  await assert.rejects(create({ volumeMounts: { '/data': 'volume' } }), /400|501/)
}

export async function ranges_of_a_network_are_accepted_and_shown({ create }) {
  const sandbox = await create({ network: { allowOut: ['93.184.0.10', '192.0.2.0/24'], denyOut: ['0.0.0.0/0'] } })
  const { network } = await sandbox.getInfo()
  assert.deepEqual(network.allowOut.map((r) => r.replace('/32', '')), ['93.184.0.10', '192.0.2.0/24'])
  assert.deepEqual(network.denyOut, ['0.0.0.0/0'])
}

export async function a_network_is_changed_while_the_sandbox_runs({ create }) {
  const sandbox = await create({ allowInternetAccess: false })
  assert.equal((await sandbox.getInfo()).allowInternetAccess, false)
  await sandbox.updateNetwork({ denyOut: ['93.184.0.0/16'] })
  const { network } = await sandbox.getInfo()
  assert.deepEqual([network.allowOut, network.denyOut], [[], ['93.184.0.0/16']])
}

export async function what_a_network_denies_is_not_reached({ create }) {
  const sandbox = await create({ allowInternetAccess: true })
  const connect = () => sandbox.commands.run('timeout 20 bash -c "exec 3<> /dev/tcp/93.184.0.10/7" 2> /dev/null && echo yes || echo no')
    .then((r) => r.stdout.trim())
  assert.equal(await connect(), 'yes')
  await sandbox.updateNetwork({ denyOut: ['93.184.0.10'] })
  assert.equal(await connect(), 'no')
  await sandbox.updateNetwork({ allowOut: ['93.184.0.10'], denyOut: ['0.0.0.0/0'] })
  assert.equal(await connect(), 'yes')
}
