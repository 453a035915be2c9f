// Loaded before a suite: AMQP's port on loopback, which some of its tests have written in, leads to the server under test.
const net = require('node:net');

const original = net.Socket.prototype.connect;

function led(options) {
  const loopback = [undefined, 'localhost', '127.0.0.1', '::1', '[::1]'].includes(options.host);
  return loopback && Number(options.port) === 5672 ? { ...options, port: Number(process.env.BASCULE_AMQP) } : options;
}

net.Socket.prototype.connect = function connect(...given) {
  // `net.connect` hands over an array that it has already put in order: [options, listener].
  if (Array.isArray(given[0])) {
    given[0][0] = led(given[0][0]);
  } else if (typeof given[0] === 'object') {
    given[0] = led(given[0]);
  }
  return original.apply(this, given);
};
