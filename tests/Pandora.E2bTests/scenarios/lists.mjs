import assert from 'node:assert/strict'

// Three sandboxes of this file's own, oldest first. Other sandboxes may be there.
let trio
const group = `group-${process.pid}`
const query = { metadata: { group } }
const three = ({ create }) => (trio ??= (async () => {
  const made = []
  for (const place of ['first', 'second', 'third & last']) made.push(await create({ metadata: { group, place } }))
  return made.map((s) => s.sandboxId)
})())

async function all(paginator) {
  const pages = []
  while (paginator.hasNext) pages.push((await paginator.nextItems()).map((s) => s.sandboxId))
  return pages
}

export async function the_newest_come_first_unless_asked_otherwise(test) {
  const ids = await three(test)
  const { Sandbox } = test.sdk
  assert.deepEqual((await all(Sandbox.list({ query }))).flat(), ids.toReversed())
  assert.deepEqual((await all(Sandbox.list({ query, order: 'asc' }))).flat(), ids)
  assert.deepEqual((await all(Sandbox.list({ query, order: 'desc' }))).flat(), ids.toReversed())
}

export async function pages_go_on_where_the_last_one_ended(test) {
  const ids = await three(test)
  const { Sandbox } = test.sdk
  assert.deepEqual(await all(Sandbox.list({ query, limit: 1 })), ids.toReversed().map((id) => [id]))
  assert.deepEqual(await all(Sandbox.list({ query, limit: 2, order: 'asc' })), [ids.slice(0, 2), ids.slice(2)])
  const first = Sandbox.list({ query, limit: 2 })
  await first.nextItems()
  assert.deepEqual((await all(Sandbox.list({ query, limit: 2, nextToken: first.nextToken }))).flat(), [ids[0]])
}

export async function every_pair_of_metadata_must_match(test) {
  const ids = await three(test)
  const find = async (metadata) => (await all(test.sdk.Sandbox.list({ query: { metadata } }))).flat()
  assert.deepEqual(await find({ group, place: 'third & last' }), [ids[2]])
  assert.deepEqual(await find({ group, place: 'third' }), [])
  assert.deepEqual(await find({ group, other: 'x' }), [])
}

export async function states_and_templates_are_filters(test) {
  const ids = await three(test)
  const find = async (more) => (await all(test.sdk.Sandbox.list({ query: { ...query, ...more } }))).flat().sort()
  assert.deepEqual(await find({ state: ['running'] }), ids.toSorted())
  assert.deepEqual(await find({ state: ['running', 'paused'] }), ids.toSorted())
  assert.deepEqual(await find({ state: ['paused'] }), [])
  assert.deepEqual(await find({ template: 'base' }), ids.toSorted())
}

export async function the_time_of_the_start_is_a_filter(test) {
  const ids = await three(test)
  const { startedAt } = await test.sdk.Sandbox.getInfo(ids[1])
  const find = async (startedAfter) => (await all(test.sdk.Sandbox.list({ query: { ...query, startedAfter } }))).flat()
  assert.deepEqual(await find(new Date(startedAt.getTime() + 1)), [ids[2]])
  assert.deepEqual(await find(new Date(Date.now() + 60_000)), [])
}

export async function what_is_listed_is_described(test) {
  const ids = await three(test)
  const [listed] = await test.sdk.Sandbox.list({ query, limit: 1 }).nextItems()
  assert.equal(listed.sandboxId, ids[2])
  assert.deepEqual(listed.metadata, { group, place: 'third & last' })
  assert.ok(listed.endAt > listed.startedAt && listed.cpuCount >= 1 && listed.memoryMB >= 64)
}

export async function a_sandbox_that_was_killed_is_not_listed(test) {
  const ids = await three(test)
  await test.sdk.Sandbox.kill(ids[0])
  assert.deepEqual((await all(test.sdk.Sandbox.list({ query, order: 'asc' }))).flat(), ids.slice(1))
}
