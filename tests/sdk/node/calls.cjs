// The usual calls of an application that uses the TypeScript SDK: node calls.cjs URL KEY FILE
//
// Rules kept here:
// - The SDK is used as its README shows; only the base URL and the key are changed.
// - The last line of output is a JSON list of the calls in order, each with its name and what it returned.

'use strict';

const {randomUUID} = require('node:crypto');
const {BlnkInit} = require('@blnkfinance/blnk-typescript');

async function run(blnk, file) {
  const run = randomUUID();
  const seen = [];

  async function call(name, made) {
    const answer = await made();
    seen.push({name, status: answer.status, code: answer.error?.code ?? null, data: answer.data});
    return answer.data ?? {};
  }

  await call('health', () => blnk.System.health());
  const {ledger_id: ledger} = await call('ledger', () =>
    blnk.Ledgers.create({name: 'sdk', meta_data: {a: 1}}));
  await call('ledger_read', () => blnk.Ledgers.get(ledger));
  await call('ledger_rename', () => blnk.Ledgers.update(ledger, {name: `renamed ${run}`}));
  const wanted = {ledger_id: ledger, currency: 'USD'};
  const {balance_id: source} = await call('balance', () => blnk.LedgerBalances.create(wanted));
  const {balance_id: target} = await call('other_balance', () => blnk.LedgerBalances.create(wanted));
  await call('balance_read', () => blnk.LedgerBalances.get(source));

  const transfer = (name, more = {}) => ({
    precise_amount: Number.MAX_SAFE_INTEGER,
    precision: 100,
    reference: `${name}-${run}`,
    description: 'sdk',
    currency: 'USD',
    source,
    destination: target,
    allow_overdraft: true,
    skip_queue: true,
    ...more,
  });

  const {Transactions} = blnk;
  const {transaction_id: paid} = await call('transaction', () => Transactions.create(transfer('paid')));
  await call('transaction_read', () => Transactions.get(paid));
  const items = [0, 1, 2].map(number => transfer(`bulk-${number}`));
  await call('bulk', () => Transactions.createBulk({transactions: items, skip_queue: true}));
  const {transaction_id: held} = await call('hold', () =>
    Transactions.create(transfer('hold', {inflight: true})));
  await call('commit', () => Transactions.updateStatus(held, {status: 'commit', skip_queue: true}));
  await call('refund', () => Transactions.refund(paid, {skip_queue: true}));
  await call('bare_refund', () => Transactions.refund(held));

  const person = {identity_type: 'individual', first_name: 'Ada', last_name: 'Lovelace'};
  const {identity_id: identity} = await call('identity', () => blnk.Identity.create(person));
  await call('identity_change', () => blnk.Identity.update(identity, {...person, first_name: 'A.'}));
  const condition = {field: 'balance', operator: '>', value: 1000, precision: 100};
  await call('monitor', () => blnk.BalanceMonitor.create({balance_id: source, condition}));
  await call('metadata', () => blnk.Metadata.update(ledger, {meta_data: {branch: 'north'}}));
  await call('search', () => blnk.Search.search({q: '*'}, 'ledgers'));
  await call('upload', () => blnk.Reconciliation.upload(file, 'sdk'));

  const wantedKey = {
    name: 'k',
    owner: 'acme',
    scopes: ['ledgers:read'],
    expires_at: '2099-01-01T00:00:00Z',
  };
  const {api_key_id: key} = await call('key', () => blnk.ApiKeys.create(wantedKey));
  await call('keys', () => blnk.ApiKeys.list({owner: 'acme'}));
  await call('key_revoke', () => blnk.ApiKeys.delete(key, {owner: 'acme'}));
  await call('hooks', () => blnk.Hooks.list());
  return seen;
}

async function main() {
  const [baseUrl, key, file] = process.argv.slice(2);
  const blnk = await BlnkInit(key, {baseUrl});
  const seen = await run(blnk, file);
  process.stdout.write(JSON.stringify(seen) + '\n');
}

main();
