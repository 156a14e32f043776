// Loaded before a client: every name of the test's domain leads to the server on this host, as DNS would say.
import dns from 'node:dns'

const domain = process.env.E2B_DOMAIN.split(':')[0]
const { lookup } = dns
dns.lookup = (name, options, callback) => {
  if (typeof options === 'function') [options, callback] = [{}, options]
  if (!name.endsWith(`.${domain}`)) return lookup(name, options, callback)
  const address = '127.0.0.1'
  process.nextTick(() => (options?.all ? callback(null, [{ address, family: 4 }]) : callback(null, address, 4)))
}
