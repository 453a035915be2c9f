// MQTT.js as a program and as a page uses it: MQTT 3.1.1 and 5, over TCP and over WebSocket.
const assert = require('node:assert');
const { once } = require('node:events');
const mqtt = require('mqtt');
const run = require('./cases.cjs');

const TCP = `mqtt://127.0.0.1:${process.env.BASCULE_MQTT}`;
const WS = `ws://127.0.0.1:${process.env.BASCULE_HTTP}/mqtt`;

async function connect(url, protocolVersion, options = {}) {
  return mqtt.connectAsync(url, { protocolVersion, reconnectPeriod: 0, ...options });
}

async function received(client, send) {
  const message = once(client, 'message');
  await send();
  const [topic, body, packet] = await message;
  return { topic, body, packet };
}

const cases = {};
for (const [via, url] of [['TCP', TCP], ['WebSocket', WS]]) {
  for (const version of [4, 5]) {
    const where = `MQTT ${version === 4 ? '3.1.1' : '5'} over ${via}`;
    for (const qos of [0, 1, 2]) {
      cases[`${where}: QoS ${qos} there and back`] = async () => {
        const client = await connect(url, version);
        const topic = `js/${via}/${version}/${qos}`;
        await client.subscribeAsync(topic, { qos });
        const body = Buffer.from(Array.from({ length: 70000 }, (_, i) => i % 256));
        const got = await received(client, () => client.publishAsync(topic, body, { qos }));
        assert.strictEqual(got.topic, topic);
        assert.strictEqual(got.packet.qos, qos);
        assert.ok(got.body.equals(body));
        await client.endAsync();
      };
    }
    cases[`${where}: a retained message`] = async () => {
      const client = await connect(url, version);
      const topic = `js/retained/${via}/${version}`;
      await client.publishAsync(topic, 'kept', { qos: 1, retain: true });
      const got = await received(client, () => client.subscribeAsync(topic, { qos: 1 }));
      assert.strictEqual(got.packet.retain, true);
      assert.strictEqual(got.body.toString(), 'kept');
      await client.publishAsync(topic, '', { qos: 1, retain: true });
      await client.endAsync();
    };
    cases[`${where}: a will`] = async () => {
      const topic = `js/will/${via}/${version}`;
      const watcher = await connect(url, version);
      await watcher.subscribeAsync(topic, { qos: 1 });
      const dying = await connect(url, version, { will: { topic, payload: Buffer.from('gone'), qos: 1, retain: false } });
      const got = await received(watcher, () => dying.stream.destroy());
      assert.strictEqual(got.body.toString(), 'gone');
      dying.end(true);
      await watcher.endAsync();
    };
    cases[`${where}: a session that waits for its client`] = async () => {
      const clientId = `js-session-${via}-${version}`;
      const options = { clientId, clean: false, properties: version === 5 ? { sessionExpiryInterval: 60 } : undefined };
      const topic = `js/session/${via}/${version}`;
      const first = await connect(url, version, options);
      await first.subscribeAsync(topic, { qos: 1 });
      await first.endAsync();
      const other = await connect(url, version);
      await other.publishAsync(topic, 'waited', { qos: 1 });
      await other.endAsync();
      const again = mqtt.connect(url, { protocolVersion: version, reconnectPeriod: 0, ...options });
      const [[acknowledged], [, body]] = await Promise.all([once(again, 'connect'), once(again, 'message')]);
      assert.strictEqual(acknowledged.sessionPresent, true);
      assert.strictEqual(body.toString(), 'waited');
      await again.endAsync();
    };
  }
  cases[`MQTT 5 over ${via}: properties`] = async () => {
    const client = await connect(url, 5);
    const topic = `js/properties/${via}`;
    const properties = {
      contentType: 'application/json',
      responseTopic: 'js/answer',
      correlationData: Buffer.from([0, 255]),
      payloadFormatIndicator: true,
      userProperties: { colour: ['red', 'green'], 'größe': '7' },
    };
    await client.subscribeAsync(topic, { qos: 1, properties: { subscriptionIdentifier: 9 } });
    const { packet } = await received(client, () => client.publishAsync(topic, '{}', { qos: 1, properties }));
    for (const [name, value] of Object.entries(properties)) {
      assert.deepStrictEqual(structuredClone(packet.properties[name]), structuredClone(value), name);
    }
    assert.strictEqual(packet.properties.subscriptionIdentifier, 9);
    await client.endAsync();
  };
}
run(cases);
