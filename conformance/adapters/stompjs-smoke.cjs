// stompjs as a page uses it, over WebSocket, in each version and with and without binary frames; its specs need its sources.
const assert = require('node:assert');
const run = require('./cases.cjs');

global.WebSocket = require('ws');
const { Client, Versions } = require('@stomp/stompjs');

const URL = `ws://127.0.0.1:${process.env.BASCULE_HTTP}`;

function connect(options) {
  return new Promise((resolve, reject) => {
    const client = new Client({
      brokerURL: `${URL}/stomp`,
      connectHeaders: { login: 'guest', passcode: 'guest' },
      reconnectDelay: 0,
      onConnect: () => resolve(client),
      onStompError: (frame) => reject(new Error(frame.headers.message)),
      onWebSocketError: (event) => reject(new Error(event.message)),
      ...options,
    });
    client.activate();
  });
}

function received(client, destination, send, headers = {}) {
  return new Promise((resolve) => {
    const receipt = `subscribed-${destination}`;
    client.watchForReceipt(receipt, send);
    client.subscribe(destination, resolve, { receipt, ...headers });
  });
}

const cases = {};
for (const version of ['1.0', '1.1', '1.2']) {
  for (const path of ['/stomp', '/ws', '/']) {
    cases[`STOMP ${version} at ${path}: a text to a topic`] = async () => {
      const client = await connect({ brokerURL: URL + path, stompVersions: new Versions([version]) });
      const destination = `/topic/js.${version.replace('.', '-')}`;
      const got = await received(client, destination, () => client.publish({ destination, body: 'Grüße', headers: { colour: 'blau' } }));
      assert.strictEqual(got.body, 'Grüße');
      assert.strictEqual(got.headers.colour, 'blau');
      await client.deactivate();
    };
  }
}
for (const forceBinaryWSFrames of [false, true]) {
  cases[`bytes to a queue, binary frames ${forceBinaryWSFrames}`] = async () => {
    const client = await connect({ forceBinaryWSFrames });
    const binaryBody = Uint8Array.from({ length: 3000 }, (_, i) => i % 256);
    const destination = '/queue/js-bytes';
    const got = await received(client, destination, () => client.publish({ destination, binaryBody }), { ack: 'client-individual' });
    got.ack();
    assert.ok(Buffer.from(got.binaryBody).equals(Buffer.from(binaryBody)));
    await client.deactivate();
  };
}
cases['a transaction'] = async () => {
  const client = await connect({});
  const destination = '/queue/js-transaction';
  const got = await received(client, destination, () => {
    const lost = client.begin();
    client.publish({ destination, body: 'lost', headers: { transaction: lost.id } });
    lost.abort();
    const kept = client.begin();
    client.publish({ destination, body: 'kept', headers: { transaction: kept.id } });
    kept.commit();
  });
  assert.strictEqual(got.body, 'kept');
  await client.deactivate();
};
cases['a wrong password'] = async () => {
  await assert.rejects(connect({ connectHeaders: { login: 'guest', passcode: 'wrong' } }));
};
run(cases);
